"""Stands in for halfulp-cell in the tests of sweeps: same arguments and files, curves made up.

`optimizer.beta1` tells it what to do (FAIL, SLOW, ...); $FAKE_CELL_LOG names a file that gets
the lines "start", "resume" and "end" with the cell's name and the process; $FAKE_CELL_BUILD is its
build ("none": a program that is too old to say it), $FAKE_CELL_DATA the hash of its digits,
$FAKE_CELL_TEXT that of its text; with $FAKE_CELL_BROKEN every cell fails. Cells that take time go on
from their checkpoint, which SIGTERM lets them write, and end only when there is a file
$FAKE_CELL_GATE, if that is set.
"""

import argparse
import copy
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# optimizer.beta1 -> what the cell does
FAIL, SLOW, HANG, NO_FILE, DEAF = 0.111, 0.222, 0.333, 0.444, 0.555
TICKS = {SLOW: 30, HANG: 60_000, DEAF: 60_000}  # of 10 ms each; DEAF: ignores SIGTERM
STOPPED, HELD = 75, 4

ROLES = ("weights", "activations", "gradients", "master", "accumulation")
ROLE = {
    "format": "binary32",
    "rounding": "nearest-even",
    "overflow": "ieee",
    "scaling": "none",
    "random_bits": 32,
}
DEFAULTS: dict[str, Any] = {
    "data": {"name": "digits", "held_out": 360, "held_out_fraction": 0.1},
    "model": {
        "kind": "mlp",
        "hidden": [128, 128],
        "activation": "relu",
        "layers": 2,
        "heads": 4,
        "width": 64,
        "context": 64,
        "feed_forward": "gelu",
        "qk_norm": False,
        "z_loss": 0.0,
    },
    "training": {"steps": 600, "batch": 64, "seed": 0, "evaluate_every": 50},
    "optimizer": {
        "learning_rate": 3e-3,
        "beta1": 0.9,
        "beta2": 0.95,
        "epsilon": 1e-8,
        "weight_decay": 1e-4,
        "warmup_fraction": 0.1,
        "final_fraction": 0.0,
        "clip_norm": 1.0,
    },
    "precision": {"label": "fp32", "path": "array", **{role: dict(ROLE) for role in ROLES}},
    "divergence": {"window": 20, "margin": 1.0, "rise": 1.0, "patience": 0},
    "observe": {"gradients": False},
    "fault": {"flip_rounding": -1},
}
ADDED_LATER = {  # keys that canonical text leaves out at their defaults
    "data": ["held_out_fraction"],
    "model": ["layers", "heads", "width", "context", "feed_forward", "qk_norm", "z_loss"],
    "divergence": ["rise", "patience"],
    "observe": ["gradients"],
}
BASELINES = {"unigram": 0.9, "bigram": 0.5}  # of a text, in nats
# What each step observes of a role: of a narrow one, and of one in binary32.
COUNTS = {
    "elements": (1000, 1000), "zeros": (100, 100), "not_finite": (2, 2),
    "overflow": (1, 0), "underflow": (20, 0), "to_zero": (9, 0),
}  # fmt: skip
# What each step observes of the update: with narrow master weights, and in binary32.
UPDATE = {"moved": (100, 100), "frozen": (40, 1), "stagnation_law": (38, 0), "adam_law": (30, 0)}
COSINE, RELATIVE_ERROR = 0.75, 0.5  # of every gradient of a narrow policy to that of FP32


BUILD = os.environ.get("FAKE_CELL_BUILD", "a" * 64)
DATA = {
    "digits": os.environ.get("FAKE_CELL_DATA", "1" * 64),
    "kjv": os.environ.get("FAKE_CELL_TEXT", "2" * 64),
}


class BadSpecError(Exception):
    """A key that no specification has."""


def merged(base: dict[str, Any], over: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The specification `over` with the defaults `base` filled in."""
    result = dict(base)
    for key, value in over.items():
        if key not in base:
            raise BadSpecError(f"{path}{key} is not a key of a cell's specification")
        nested = isinstance(base[key], dict)
        result[key] = merged(base[key], value, f"{path}{key}.") if nested else value
    return result


def canonical(text: str) -> str:
    tree = copy.deepcopy(merged(DEFAULTS, json.loads(text)))
    for table, keys in ADDED_LATER.items():
        for key in keys:
            if tree[table][key] == DEFAULTS[table][key]:
                del tree[table][key]
        if not tree[table]:
            del tree[table]
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def log(event: str, name: str) -> None:
    if "FAKE_CELL_LOG" in os.environ:
        with Path(os.environ["FAKE_CELL_LOG"]).open("a") as file:
            file.write(f"{event} {name} {os.getpid()}\n")


def curves(spec: dict[str, Any]) -> dict[str, Any]:
    """Losses that fall; worse for narrow operands and master weights and for rates off 1e-2."""
    import numpy as np

    precision, training = spec["precision"], spec["training"]
    rate, steps = spec["optimizer"]["learning_rate"], training["steps"]
    key = json.dumps([precision[r] for r in ROLES]).encode()  # not the path: that changes no bit
    seed = int.from_bytes(hashlib.sha256(key).digest()[:4], "big")
    random = np.random.default_rng([training["seed"], seed])
    narrow = sum(precision[r]["format"] != "binary32" for r in ROLES[:3])
    truncated = sum(precision[r]["rounding"] == "toward-zero" for r in ROLES[:3])
    floor = 0.09 + 0.01 * narrow + 0.02 * truncated
    floor += 0.15 * np.log10(rate / 1e-2) ** 2 + 0.01 * random.random()
    if precision["master"]["format"] != "binary32":
        floor += 0.8
    step = np.arange(1, steps + 1)
    loss = floor + (2.3 - floor) * np.exp(-step * 8 * rate**0.3 / 100)
    loss *= 1 + 0.1 * random.standard_normal(steps)
    if truncated and rate > 2e-2 and training["seed"] != 1:
        loss = np.concatenate([loss[: steps // 2], 3.0 + np.arange(5.0)])
    if spec["fault"]["flip_rounding"] >= 0:
        loss[-1] = np.nextafter(loss[-1], 10)
    return {"loss": loss, "diverged": len(loss) != steps, "random": random}


def observe(spec: dict[str, Any], steps: int) -> dict[str, Any]:
    """Path below /metrics/observed -> data: the same in every one of the observed steps."""
    import numpy as np

    every = spec["training"]["evaluate_every"]
    last = spec["training"]["steps"]
    at = [s for s in range(1, steps + 1) if s % every == 0 or s == last]
    narrow = {role: spec["precision"][role]["format"] != "binary32" for role in ROLES}
    found: dict[str, Any] = {"step": np.array(at, np.int64)}
    for role in ROLES:
        for name, (if_narrow, if_not) in COUNTS.items():
            found[f"{role}/{name}"] = np.full(len(at), if_narrow if narrow[role] else if_not)
        exponents = np.zeros(277, np.int64)
        exponents[149 - 12 : 149 - 3] = len(at) * np.array([8, 50, 100, 150, 200, 180, 120, 70, 20])
        found[f"{role}/exponents"] = exponents
    for name, (if_narrow, if_not) in UPDATE.items():
        found[f"update/{name}"] = np.full(len(at), if_narrow if narrow["master"] else if_not)
    if spec.get("observe", {}).get("gradients"):
        same = not any(narrow.values())
        for parameter in ("layer0.weight", "all"):
            found[f"gradient/{parameter}/cosine"] = np.full(len(at), 1 if same else COSINE)
            error = np.full(len(at), 0 if same else RELATIVE_ERROR)
            found[f"gradient/{parameter}/relative_error"] = error
    return found


def write(spec: dict[str, Any], text: str, part: Path, started: float) -> None:
    import h5py
    import numpy as np

    made = curves(spec)
    loss, random = made["loss"], made["random"]
    every = spec["training"]["evaluate_every"]
    at = np.array(sorted({*range(every, len(loss) + 1, every), len(loss)}), dtype=np.int64)
    general = spec["precision"]["path"] == "general"
    with h5py.File(part, "w", locking=False) as file:
        file["spec"] = text
        metrics = file.create_group("metrics")
        metrics["train_loss"] = loss
        metrics["gradient_norm"] = 1 + random.random(len(loss))
        metrics["learning_rate"] = np.full(len(loss), spec["optimizer"]["learning_rate"])
        metrics["eval_step"] = at
        metrics["eval_loss"] = loss[at - 1] * 1.05
        metrics["eval_accuracy"] = np.exp(-loss[at - 1] / 3)
        metrics["initial_eval_loss"] = 2.31
        for role in ROLES:
            rounded = general or spec["precision"][role]["format"] != "binary32"
            metrics[f"rounding/{role}/calls"] = np.int64(7 * rounded)
            metrics[f"rounding/{role}/elements"] = np.int64(700 * rounded)
        for name, data in observe(spec, len(loss)).items():
            metrics[f"observed/{name}"] = data
        if spec["data"]["name"] == "kjv":
            for name, nats in BASELINES.items():
                metrics[f"baseline_{name}"] = nats
        file["checkpoint/layer0.weight"] = random.random((4, 3)).astype(np.float32)
        file.attrs.update(
            halfulp_version="0.1.0", git_sha="0" * 40, compiler="gcc 12", flags="-O2", device="cpu",
            seed=spec["training"]["seed"], format="binary32", rounding="nearest-even",
            data_sha256=DATA.get(spec["data"]["name"], "3" * 64), outcome="diverged" if made["diverged"] else "completed",
            diverged_step=len(loss) if made["diverged"] else -1, wall_seconds=time.time() - started,
            training_seconds=0.002 * len(loss), resumed=0,
            started="2025-01-01T00:00:00Z", weights_sha256="2" * 64,
        )  # fmt: skip
        if BUILD != "none":
            file.attrs["numerics"] = BUILD
        file.attrs["status"] = "complete"


def claimed(part: Path) -> bool:
    """Takes the part as halfulp-cell does; the lock is held until the process ends."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if part.exists() and os.path.samestat(os.fstat(handle), part.stat()):
            return True
        os.close(handle)


def takes_time(name: str, behave: float, resume: Path) -> bool:
    """Waits as long as it was told, or until SIGTERM; False if that stopped it."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1) if behave != DEAF else None)
    tick = 0
    if resume.exists():
        tick = int(resume.read_text())
        log("resume", name)
    gate = os.environ.get("FAKE_CELL_GATE")
    while tick < TICKS.get(behave, 0) or (
        behave in TICKS and gate is not None and not Path(gate).exists()
    ):
        time.sleep(0.01)
        tick += 1
        if stopped:
            temporary = resume.with_name(resume.name + ".new")
            temporary.write_text(str(tick))
            temporary.rename(resume)
            print(f"halfulp-cell: stopped at step {tick} of {TICKS[behave]}; the same command goes "
                  "on from there", file=sys.stderr)  # fmt: skip
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--canonical", action="store_true")
    parser.add_argument("--spec")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--version", action="store_true")
    options = parser.parse_args()
    if options.version:
        said = {"version": "0.1.0", "numerics": BUILD, "git_sha": "0" * 40, "data_sha256": DATA}
        print(json.dumps(said) if BUILD != "none" else "halfulp-cell 0.1.0")
        return 0
    if options.canonical:
        for number, line in enumerate(sys.stdin, 1):
            try:
                print(canonical(line))
            except BadSpecError as error:
                print(f"line {number}: {error}", file=sys.stderr)
                return 2
        return 0
    if options.out.with_suffix("").exists() and not options.force:
        print(f"halfulp-cell: {options.out} is complete already", file=sys.stderr)
        return 3
    started, text = time.time(), canonical(sys.stdin.read())
    spec = json.loads(text)
    name, behave = options.out.name.split(".")[0], spec["optimizer"]["beta1"]
    if behave == FAIL or "FAKE_CELL_BROKEN" in os.environ:
        log("start", name)
        print("halfulp-cell: it was told to fail", file=sys.stderr)
        return 3
    if behave == NO_FILE:
        log("start", name)
        return 0
    complete = options.out.with_suffix("")
    if not claimed(options.out):
        print(f"halfulp-cell: {options.out} is being written by another process", file=sys.stderr)
        return HELD
    if complete.exists() and not options.force:
        options.out.unlink()
        return 3
    log("start", name)
    options.out.write_bytes(b"half-written")
    resume = complete.with_name(complete.name + ".resume")
    if not takes_time(name, behave, resume):
        return STOPPED
    write(spec, text, options.out, started)
    options.out.rename(complete)
    log("end", name)
    resume.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
