# Set-up for ./dev (sourced by it): Debian packages and .venv. With nothing missing it prints nothing.
# shellcheck shell=bash

# ---------------------------------------------------------------- Debian packages, by what needs them
declare -A PACKAGES=(
  [base]="g++ cmake ninja-build git ca-certificates python3 python3-dev python3-venv libhdf5-dev
    nlohmann-json3-dev libcli11-dev libtomlplusplus-dev zlib1g-dev libmpfr-dev"
  [tests]="catch2 libboost-dev libeigen3-dev librapidcheck-dev valgrind"
  [format]="clang-format"
  [clang]="clang"
  [lint]="clang-tidy"
)

say() { printf '%s\n' "$*"; }
die() { local code=$1; shift; printf 'dev: %s\n' "$*" >&2; exit "$code"; }
missing_tools() { for tool in "$@"; do command -v "$tool" >/dev/null || printf '%s ' "$tool"; done; }

# quietly COMMAND...: shows the output only if the command fails.
LOG=
quietly() {
  if [[ -z $LOG ]]; then LOG=$(mktemp); trap 'rm -f "$LOG"' EXIT; fi
  local code=0
  "$@" >"$LOG" 2>&1 </dev/null || code=$?
  [[ $code == 0 ]] || { cat "$LOG" >&2; printf 'dev: failed (exit %s): %s\n' "$code" "$*" >&2; }
  return "$code"
}

# Two ./dev at once would make one .venv and one build twice: the second waits for the first.
lock() {
  command -v flock >/dev/null || return 0
  mkdir -p build && exec 9>build/.lock
  flock -n 9 || { say "waiting for another ./dev"; flock 9; }
}
unlock() { exec 9>&-; }

# missing_packages NAME...: the names that are not installed. A catch2 older than 3 counts as missing;
# headers of another Boost stand for libboost-dev (which apt would refuse to put beside them).
missing_packages() {
  local installed name
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' "$@" 'libboost1.*-dev' 2>/dev/null |
    awk '$1 ~ /^libboost1\.[0-9]+-dev$/ { $1 = "libboost-dev" }
      $2 == "installed" && !($1 == "catch2" && $3 ~ /^[0-2]\./) { print $1 }') || true
  for name in $(printf '%s\n' "$@" | sort -u); do
    [[ $'\n'$installed$'\n' == *$'\n'"$name"$'\n'* ]] || printf '%s ' "$name"
  done
}

# shellcheck disable=SC1091
codename() { (. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}"); }
apt() { quietly apt-get -o DPkg::Lock::Timeout=300 "$@"; }
catch2_candidate_is_3() { apt-cache policy catch2 | grep -E '^ *Candidate: ([0-9]+:)?([3-9]|[1-9][0-9])\.' >/dev/null; }
backports_known() { apt-cache madison catch2 | grep " $(codename)-backports/" >/dev/null; }

# Prints the machine's own apt source of Debian, as FILE then its text with the suite SUITE put in.
backports_source() {
  local suite=$1 own file
  # shellcheck disable=SC2016
  own=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(SOURCESENTRY)' 'Created-By: Packages' |
    awk -F'|' -v name="$(codename)" '$1 == "Debian" && $2 == name && $3 == "main" { print $4; exit }')
  file=${own%:*}
  [[ -r $file ]] || return 1
  if [[ $file == *.list ]]; then
    say /etc/apt/sources.list.d/halfulp-backports.list
    sed -nE "s/^deb[[:space:]]+((\[[^]]*\][[:space:]]+)?[^[:space:]]+)[[:space:]]+($(codename)|[a-z]*stable)[[:space:]]+/deb \1 $suite /p" "$file" | head -n 1
  else
    say /etc/apt/sources.list.d/halfulp-backports.sources
    # The first stanza of binaries with this release among its suites; all other fields are kept.
    awk -v name="$(codename)" -v suite="$suite" '
      BEGIN { RS = ""; FS = "\n" }
      { text = ""; binaries = release = 0
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^#/) continue
          value = $i
          if ($i !~ /^[ \t]/) { field = tolower($i); sub(/:.*/, "", field); sub(/^[^:]*:/, "", value) }
          value = " " value " "
          if (field == "types" && index(value, " deb ")) binaries = 1
          if (field == "suites") {
            if (index(value, " " name " ") || value ~ / (old)*stable /) release = 1
            if ($i !~ /^[ \t]/) text = text "Suites: " suite "\n"
          } else if (field == "types") text = text "Types: deb\n"
          else if (field != "enabled") text = text $i "\n"
        }
        if (binaries && release) { printf "%s", text; exit } }' "$file"
  fi
}

# Catch2 3 is in Debian 12's backports only: adds that suite, from the same place and with the same key.
add_backports() {
  local suite source file
  suite=$(codename)-backports
  source=$(backports_source "$suite") || source=
  file=${source%%$'\n'*}
  [[ $source == *$'\n'*"$suite"* ]] ||
    die 1 "Catch2 3 is needed and no apt source of Debian's $(codename) was found to take $suite from"
  say "adding the suite $suite to apt ($file)"
  printf '%s\n' "${source#*$'\n'}" >"$file"
  # If the suite cannot be had, apt is left as it was.
  if ! apt update -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 ||
    ! backports_known; then
    rm -f "$file"
    die 1 "$suite cannot be read or holds no Catch2; $file was removed again"
  fi
}

# An installation that was killed is finished first. Its dpkg may still be running: apt gives it a
# session of its own. What is only half unpacked is left to `apt-get -f install`.
finish_installation() {
  local said="" output
  until output=$(LC_ALL=C dpkg --configure -a 2>&1 </dev/null) || [[ $output != *"locked by another process"* ]]; do
    [[ -n $said ]] || say "waiting for another installation of packages to end"
    said=1
    sleep 1
  done
}

# need_packages GROUP...: installs what is missing; never by removing anything.
need_packages() {
  local group wanted="" names absent plan removed catch2=catch2
  for group in "$@"; do wanted+=" ${PACKAGES[$group]}"; done
  read -r -d '' -a names <<<"$wanted" || true
  [[ -z ${HALFULP_SKIP_APT:-} ]] || return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    absent=$(missing_tools cmake ninja c++ python3)
    [[ -z $absent ]] || die 3 "no apt here, and these are missing: $absent(cmake >= 3.25, ninja, a C++20" \
      "compiler, Python >= 3.11; and the libraries HDF5, zlib, nlohmann-json, CLI11, toml++, MPFR, and for the tests Boost, Eigen, Catch2 3)"
    return 0
  fi
  absent=$(missing_packages "${names[@]}")
  [[ -n $absent ]] || return 0
  read -r -a names <<<"$absent"
  if [[ $(id -u) != 0 ]]; then
    if [[ " $absent" != *" catch2 "* ]] || catch2_candidate_is_3; then
      die 3 "packages are missing and this is not root; run: sudo apt-get install --no-install-recommends ${absent% }"
    fi
    die 3 "packages are missing and this is not root (${absent% }; Catch2 3 comes from backports); run: sudo ./dev packages"
  fi
  say "installing ${#names[@]} Debian packages: ${names[*]}"
  export DEBIAN_FRONTEND=noninteractive
  finish_installation
  apt update || say "apt-get update failed; going on with the package lists that are there"
  if [[ " $absent" == *" catch2 "* ]] && ! catch2_candidate_is_3; then
    backports_known || add_backports
    catch2=catch2/$(codename)-backports # this package alone comes from there
  fi
  names=("${names[@]/#catch2/$catch2}")
  apt -s -f install --no-install-recommends "${names[@]}" # -f: also mends what a kill left half-unpacked
  plan=$(<"$LOG")
  removed=$(awk '$1 == "Remv" { printf "%s ", $2 }' <<<"$plan")
  [[ -z $removed ]] || die 1 "refused: apt would remove ${removed}to install ${names[*]}; nothing was changed" \
    "(HALFULP_SKIP_APT=1 goes on with what is there)"
  apt install -f -y --no-remove --no-install-recommends "${names[@]}"
}

# ---------------------------------------------------------------- .venv
# The Debian python where it is complete: its headers are the ones that apt installs.
base_python() {
  local python
  for python in /usr/bin/python3 python3; do
    "$python" - 2>/dev/null <<'PYTHON' && { command -v "$python"; return; }
import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PYTHON
  done
  die 3 "no Python >= 3.11 with venv and headers was found (Debian: python3-venv python3-dev)"
}

# Prints a hash and then the requirements of pyproject.toml for `run`, `dev` or `peers`.
requirements() {
  .venv/bin/python - "$1" <<'PYTHON'
import hashlib, os, pathlib, sys, tomllib
version = "%d.%d" % sys.version_info[:2]
if pathlib.Path(".venv/.made-by-dev").read_text() != f"{os.getcwd()} {version}\n":
    sys.exit("moved, or made with another Python")
with open("pyproject.toml", "rb") as file:
    whole = tomllib.load(file)
names = whole["project"]["dependencies"] + [
    name for name in whole["build-system"]["requires"] if name.startswith("pybind11")]
for extra in {"run": [], "dev": ["dev"], "peers": ["dev", "peers"]}[sys.argv[1]]:
    names += whole["project"]["optional-dependencies"][extra]
print(hashlib.sha256(repr([version, sorted(set(names))]).encode()).hexdigest(), *names, sep="\n")
PYTHON
}

# need_venv run|dev|peers. The file .venv/.unfinished stands there while something is being made: a .venv
# that was killed half-way is thus known, and made anew.
need_venv() {
  local python list hash
  if [[ -e .venv/.unfinished ]] || ! list=$(requirements "$1" 2>/dev/null); then
    if [[ -d .venv && -n $(ls -A .venv) && ! -e .venv/.unfinished && ! -e .venv/.made-by-dev ]]; then
      die 1 ".venv was not made by ./dev; move it away"
    fi
    python=$(base_python)
    say "making .venv with $python"
    rm -rf .venv && mkdir .venv && touch .venv/.unfinished
    quietly "$python" -m venv .venv
    say "$PWD $(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" >.venv/.made-by-dev
    rm .venv/.unfinished
    list=$(requirements "$1")
  fi
  hash=${list%%$'\n'*}
  # The dev list contains the run list, so either stamp will do for `run`.
  grep -qsx "$hash" ".venv/.installed-$1" && return
  if [[ $1 == run ]] && grep -qsx "$(requirements dev | head -n 1)" .venv/.installed-dev; then return; fi
  mapfile -t list <<<"${list#*$'\n'}"
  say "installing ${#list[@]} Python packages into .venv"
  touch .venv/.unfinished
  quietly .venv/bin/python -m pip install -q --no-input --disable-pip-version-check --prefer-binary "${list[@]}"
  say "$hash" >".venv/.installed-$1"
  rm .venv/.unfinished
}

set_up() { local python=$1; shift; lock; need_packages "$@"; need_venv "$python"; unlock; }
