#!/usr/bin/env bash
# Everything that a machine with a GPU is asked, in one go.
#
#   tests/subjects/on_gpu.sh MODULES OUT [SECONDS [JOBS]]
#
# MODULES  a folder with halfulp/ (the package, its modules compiled for that machine's python3), bin/halfulp-conform, and
#          in lib/ what shared libraries these need and the machine lacks (libmpfr.so.6, libgmp.so.10)
# OUT      conformance-cuda.json and .jsonl.gz (run.py), plug-in.txt, machine.txt, run.log; what is there is gone on with
# SECONDS  no subject is begun after so many (400), JOBS processes at once (6)
#
# Nothing is fetched or installed. PYTHON and NVCC name other programs. Ends with 0 if OUT has results.
set -u -o pipefail
if [[ $# -lt 2 ]]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 2
fi
modules=$(cd "$1" && pwd) || exit 2
mkdir -p "$2" && out=$(cd "$2" && pwd) || exit 2
seconds=${3:-400} jobs=${4:-6}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
header=$here/../../kernels/conformance
python=${PYTHON:-python3} nvcc=${NVCC:-nvcc}
export PYTHONPATH=$modules${PYTHONPATH:+:$PYTHONPATH} PATH=$modules/bin:$PATH PYTHONUNBUFFERED=1
[[ -d $modules/lib ]] && export LD_LIBRARY_PATH=$modules/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[[ -d /usr/local/cuda/bin ]] && PATH=$PATH:/usr/local/cuda/bin

{
  date -u
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  "$nvcc" --version | tail -2
  for name in halfulp torch cupy jax numpy; do
    "$python" -c "import importlib.metadata as m; print('$name', m.version('$name'))" 2>/dev/null ||
      "$python" -c "import $name; print('$name', $name.__version__)" 2>/dev/null || echo "$name: not installed"
  done
} 2>&1 | tee "$out/machine.txt"

if ! "$python" -c "import halfulp as hu; hu.suites()"; then
  echo "halfulp cannot be imported from $modules by $("$python" --version)"
  exit 3
fi

# A plug-in of the reader's own, from its source to the verdict: right, and wrong in one place.
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
for kind in right wrong; do
  flags=(-shared -Xcompiler -fPIC -O2 -arch=native -I"$header")
  [[ $kind == wrong ]] && flags+=(-DHALFULP_EXAMPLE_WRONG)
  echo "== softmax.cu, $kind"
  "$nvcc" "${flags[@]}" "$header/example/softmax.cu" -o "$built/$kind.so" &&
    timeout 120 halfulp-conform run --suite softmax --kernel "$built/$kind.so"
  echo "exit code $? (0: the promise is kept, 1: it is not)"
done 2>&1 | tee "$out/plug-in.txt" | tail -40

"$python" "$here/run.py" --device cuda --out "$out" --jobs "$jobs" --seconds "$seconds" --subject-seconds 150 --resume \
  2>&1 | tee -a "$out/run.log"
[[ -s $out/conformance-cuda.json ]]
