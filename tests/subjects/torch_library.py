"""torch: the functions that people call, and the operators beneath them where only these tell what is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from subject import AbsentError, Subject, need

_REFUSALS = (
    "No execution plans",
    "No valid",
    "not supported",
    "No available kernel",
    "NOT_SUPPORTED",
)


class _Set:
    """A flag of torch while a subject is asked, and what it was before afterwards."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __enter__(self) -> None:
        self.before = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.value)

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.before)


def _refused(error: RuntimeError) -> bool:
    """Whether the operator says that it does not do this, which is no fault."""
    text = str(error)
    return any(words in text for words in _REFUSALS) and "illegal" not in text


def torch_subjects(device: str) -> Iterator[Subject]:
    torch = need("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise AbsentError("this torch sees no GPU")

    def subject(suite: str, v: str, name: str, kernel: Callable[..., Any], **more: Any) -> Subject:
        return Subject(suite, v, name, kernel, arrays="torch", device=device, **more)

    # In the order of what is asked about most, so that a run that is cut short has that.
    yield from _rows(torch, subject)
    yield from _attention(torch, subject, device)
    yield from _products(torch, subject, device)
    yield from _losses(torch, subject)
    yield from _pointwise(torch, subject)
    yield from _optimisers(torch, subject, device)
    yield from _attention_backward(torch, subject, device)


Make = Callable[..., Subject]


def _rows(torch: Any, subject: Make) -> Iterator[Subject]:
    F = torch.nn.functional

    def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        return F.layer_norm(x, (x.shape[1],), weight, bias, eps)

    def rms_norm(x: Any, weight: Any, eps: float) -> Any:
        return F.rms_norm(x, (x.shape[1],), weight, eps)

    for v in ("float32", "bfloat16", "float16"):
        yield subject("softmax", v, "torch.softmax", lambda x: torch.softmax(x, 1))
        yield subject("layer-norm", v, "torch layer_norm", layer_norm)
        yield subject("rms-norm", v, "torch rms_norm", rms_norm)


def _attention(torch: Any, subject: Make, device: str) -> Iterator[Subject]:
    """scaled_dot_product_attention's backends by the operators beneath it, which return lse too.

    (B, S, H, D) to (B, H, S, D). With a causal mask and S != T torch aligns to the first query, the suite to the last.
    """
    F, ops = torch.nn.functional, torch.ops.aten

    def lse_of(q: Any, k: Any, scale: float, seen: Any) -> Any:
        scores = torch.matmul(q.float(), k.float().transpose(2, 3)) * scale
        lse = torch.logsumexp(
            scores if seen is None else scores.masked_fill(~seen, -float("inf")), -1
        )
        # Where a score is +inf so is logsumexp; the suite asks NaN of attention's lse there.
        return lse.masked_fill(lse == float("inf"), float("nan"))

    def attention(backend: str) -> Callable[..., Any]:
        def run(q: Any, k: Any, v: Any, scale: float, causal: float) -> Any:
            S, T, D = q.shape[1], k.shape[1], q.shape[3]
            if 0 in (*q.shape, *k.shape):
                raise NotImplementedError("torch takes no empty sequences")
            if causal and S != T:
                raise NotImplementedError("torch aligns the mask to the first query")
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            is_causal = bool(causal)
            if backend == "math":
                out = F.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=is_causal)
                seen = (
                    torch.ones(S, T, dtype=torch.bool, device=q.device).tril()
                    if is_causal
                    else None
                )
                return out.transpose(1, 2).contiguous(), lse_of(q, k, scale, seen).contiguous()
            if D % 8:  # as scaled_dot_product_attention does it itself
                q, k, v = (F.pad(t, (0, 8 - D % 8)) for t in (q, k, v))
            try:
                if backend == "flash":
                    out, lse = ops._scaled_dot_product_flash_attention(
                        q, k, v, 0.0, is_causal, False, scale=scale
                    )[:2]
                elif backend == "efficient":
                    out, lse = ops._scaled_dot_product_efficient_attention(
                        q, k, v, None, True, 0.0, is_causal, scale=scale
                    )[:2]
                else:
                    out, lse = ops._scaled_dot_product_cudnn_attention(
                        q, k, v, None, True, 0.0, is_causal, False, scale=scale
                    )[:2]
            except RuntimeError as error:
                if _refused(error):
                    raise NotImplementedError("this backend does not take the case") from None
                raise
            lse = lse.reshape(lse.shape[0], lse.shape[1], -1)[:, :, :S].float()
            return out[..., :D].transpose(1, 2).contiguous(), lse.contiguous()

        return run

    class Math:
        def __enter__(self) -> None:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            self.context = sdpa_kernel(SDPBackend.MATH)
            self.context.__enter__()

        def __exit__(self, *_: object) -> None:
            self.context.__exit__(None, None, None)

    for backend in ("flash", "cudnn", "efficient", "math") if device == "cuda" else ("math",):
        for v in ("bfloat16", "float16", "float32"):
            if v == "float32" and backend in ("flash", "cudnn"):
                continue  # of 16 bits only
            note = "lse by its formula" if backend == "math" else "heads padded to 8n"
            around = Math if backend == "math" else None
            yield subject(
                "attention",
                v,
                f"torch SDPA, {backend}",
                attention(backend),
                around=around,
                note=note,
            )


def _products(torch: Any, subject: Make, device: str) -> Iterator[Subject]:
    def product(a: Any, b: Any, c: Any = None) -> Any:
        return torch.matmul(a, b) if c is None else torch.addmm(c, a, b)

    def flag(name: str, value: bool) -> Callable[[], Any]:
        return lambda: _Set(torch.backends.cuda.matmul, name, value)

    no_tf32 = flag("allow_tf32", False)
    yield subject("matmul", "bfloat16", "torch.matmul", product)
    yield subject("matmul", "float16", "torch.matmul", product)
    yield subject("matmul", "float32", "torch.matmul", product, around=no_tf32)
    if device == "cuda":
        tf32 = {"around": flag("allow_tf32", True), "note": "TF32 allowed"}
        yield subject("matmul", "tf32", "torch.matmul", product, **tf32)
        reduced = "allow_{}_reduced_precision_reduction"
        for v, short in (("bfloat16", "bf16"), ("float16", "fp16")):
            off = flag(reduced.format(short), False)
            yield subject(
                "matmul",
                v,
                "torch.matmul",
                product,
                around=off,
                note="no reduced-precision reduction",
            )

        def widened(a: Any, b: Any, c: Any = None) -> Any:
            if 0 in (*a.shape, *b.shape):
                raise NotImplementedError("empty")
            d = torch.mm(a, b, out_dtype=torch.float32)
            return d if c is None else d + c

        yield subject("matmul", "bfloat16:float32", "torch.mm, float32 out", widened)
        yield subject("matmul", "float16:float32", "torch.mm, float32 out", widened)
        yield from _scaled_products(torch, subject)
    yield subject("sum", "float32", "torch.sum", lambda x: torch.sum(x, 1))
    yield subject("sum", "bfloat16", "torch.sum", lambda x: torch.sum(x, 1))
    yield subject("sum", "float16", "torch.sum", lambda x: torch.sum(x, 1))
    yield subject("sum", "float64", "torch.sum", lambda x: torch.sum(x, 1))
    yield subject("dot", "float32", "torch.linalg.vecdot", lambda a, b: torch.linalg.vecdot(a, b))

    def int8_product(a: Any, b: Any, c: Any = None) -> Any:
        m, k = a.shape
        n = b.shape[1]
        if 0 in (m, n, k):
            raise NotImplementedError("empty")
        # _int_mm asks for more than 16 rows; cuBLASLt refuses some that are no multiple of 32.
        big_a = torch.zeros(-(-m // 32) * 32, -(-k // 8) * 8, dtype=torch.int8, device=a.device)
        big_b = torch.zeros(-(-k // 8) * 8, -(-n // 8) * 8, dtype=torch.int8, device=a.device)
        big_a[:m, :k] = a
        big_b[:k, :n] = b
        d = torch._int_mm(big_a, big_b)[:m, :n].contiguous()
        return d if c is None else d + c

    yield subject("int8-matmul", "int8", "torch._int_mm", int8_product, note="padded with zeros")


def _scaled_products(torch: Any, subject: Make) -> Iterator[Subject]:
    """torch._scaled_mm wants multiples of 16 (of 128 with blocks), b by columns: zeros are added, which change nothing."""

    def padded(a: Any, b: Any, of: int) -> tuple[Any, Any]:
        (m, k), n = a.shape, b.shape[1]
        if 0 in (m, n, k):
            raise NotImplementedError("empty")
        rows, depth, columns = -(-m // 16) * 16, -(-k // of) * of, -(-n // 16) * 16
        big_a = torch.zeros(rows, depth, device=a.device, dtype=torch.uint8)
        big_b = torch.zeros(columns, depth, device=a.device, dtype=torch.uint8)
        big_a[:m, :k] = a.view(torch.uint8)
        big_b[:n, :k] = b.view(torch.uint8).t()
        return big_a.view(a.dtype), big_b.view(b.dtype).t()

    def plain(fast: bool) -> Callable[..., Any]:
        def run(a: Any, b: Any, c: Any = None) -> Any:
            x, y = padded(a, b, 16)
            one = torch.ones((), device=a.device)
            d = torch._scaled_mm(x, y, one, one, out_dtype=torch.float32, use_fast_accum=fast)
            d = d[: a.shape[0], : b.shape[1]].contiguous()
            return d if c is None else d + c

        return run

    def scaled(kind: str, out: Any, as_it_is: bool = False) -> Callable[..., Any]:
        def run(a: Any, b: Any, a_scale: Any, b_scale: Any) -> Any:
            x, y = padded(a, b, 128 if kind == "block128" else 16)
            if kind == "tensor":
                left, right = a_scale.reshape(()), b_scale.reshape(())
            elif kind == "row":
                left = torch.ones(x.shape[0], 1, device=a.device)
                right = torch.ones(1, y.shape[1], device=a.device)
                left[: a.shape[0]], right[:, : b.shape[1]] = a_scale, b_scale
            else:  # 1 × 128 of a, outermost dimension fastest; 128 × 128 of b, K fastest
                blocks, columns = b_scale.shape
                left = torch.ones(blocks, x.shape[0], device=a.device).t()
                left[: a.shape[0]] = a_scale
                # cuBLASLt reads b's scales in columns of a multiple of 4 and is not told otherwise
                # (pytorch/pytorch#166752); `as it is` leaves that out, as torch lets one do.
                room = blocks if as_it_is else -(-blocks // 4) * 4
                right = torch.ones(columns, room, device=a.device).t()[:blocks]
                right.copy_(b_scale)
            try:
                d = torch._scaled_mm(x, y, left, right, out_dtype=out)
            except RuntimeError as error:
                if _refused(error) or "Invalid scaling" in str(error):
                    raise NotImplementedError(str(error).splitlines()[0]) from None
                raise
            return d[: a.shape[0], : b.shape[1]].contiguous()

        return run

    name = "torch._scaled_mm"
    yield subject("matmul", "float8_e4m3fn:float32", name, plain(False))
    yield subject("matmul", "float8_e4m3fn:float32", name, plain(True), note="fast accumulation")
    yield subject("matmul", "float8_e4m3fn:float32:promoted", name, plain(False))
    for kind in ("tensor", "row", "block128"):
        yield subject("scaled-matmul", f"fp8-{kind}", name, scaled(kind, torch.float32))
        yield subject("scaled-matmul", f"fp8-{kind}:bfloat16", name, scaled(kind, torch.bfloat16))
    note = "scales of b without padding"
    yield subject(
        "scaled-matmul", "fp8-block128", name, scaled("block128", torch.float32, True), note=note
    )


def _losses(torch: Any, subject: Make) -> Iterator[Subject]:
    F = torch.nn.functional

    def no_tf32() -> Any:
        return _Set(torch.backends.cuda.matmul, "allow_tf32", False)

    def cross_entropy(e: Any, c: Any, target: Any) -> Any:
        return F.cross_entropy(e.float() @ c.float().t(), target, reduction="none")

    def log_softmax(e: Any, c: Any, target: Any) -> Any:
        logs = torch.log_softmax(e.float() @ c.float().t(), 1)
        return -logs.gather(1, target[:, None])[:, 0]

    def gradient(e: Any, c: Any, target: Any, dloss: Any) -> Any:
        e, c = e.clone().requires_grad_(), c.clone().requires_grad_()
        F.cross_entropy(e @ c.t(), target, reduction="none").backward(dloss)
        return e.grad, c.grad

    for v in ("float32", "bfloat16"):
        yield subject(
            "cross-entropy", v, "torch cross_entropy of e·cᵀ", cross_entropy, around=no_tf32
        )
    yield subject(
        "cross-entropy", "float32", "torch log_softmax of e·cᵀ", log_softmax, around=no_tf32
    )
    name = "torch cross_entropy, backward"
    yield subject("cross-entropy-backward", "float32", name, gradient, around=no_tf32)
    for v in ("float32", "bfloat16", "float16"):
        yield subject("log-sum-exp", v, "torch.logsumexp", lambda x: torch.logsumexp(x, 1))


def _pointwise(torch: Any, subject: Make) -> Iterator[Subject]:
    F = torch.nn.functional

    def casts(dtype: Any) -> Callable[..., Any]:
        return lambda x: x.to(dtype)

    for v in ("float32", "bfloat16", "float16"):
        yield subject("gelu", v, "torch gelu", lambda x: F.gelu(x))
        yield subject("gelu-tanh", v, "torch gelu, tanh", lambda x: F.gelu(x, approximate="tanh"))
        yield subject("silu", v, "torch silu", lambda x: F.silu(x))
    for name in ("float8_e4m3fn", "float8_e5m2"):
        yield subject("quantize", f"{name}-ieee", f"torch .to({name})", casts(getattr(torch, name)))


def _optimisers(torch: Any, subject: Make, device: str) -> Iterator[Subject]:
    def adamw(**how: bool) -> Callable[..., Any]:
        def run(parameter: Any, gradient: Any, m: Any, v: Any, **a: float) -> Any:
            p = parameter.clone().requires_grad_()
            p.grad = gradient.clone()
            optimizer = torch.optim.AdamW(
                [p],
                lr=a["lr"],
                betas=(a["beta1"], a["beta2"]),
                eps=a["eps"],
                weight_decay=a["weight_decay"],
                **how,
            )
            where = p.device if how.get("fused") else "cpu"
            optimizer.state[p] = {
                "step": torch.tensor(float(a["step"]) - 1, device=where),
                "exp_avg": m.clone(),
                "exp_avg_sq": v.clone(),
            }
            optimizer.step()
            state = optimizer.state[p]
            return p.detach(), state["exp_avg"], state["exp_avg_sq"]

        return run

    for kind in ("fused", "foreach"):
        yield subject("adamw", "float32", f"torch AdamW, {kind}", adamw(**{kind: True}))
    yield subject("adamw", "float32", "torch AdamW, loop", adamw(foreach=False))


def _attention_backward(torch: Any, subject: Make, device: str) -> Iterator[Subject]:
    F = torch.nn.functional
    if device != "cuda":
        return

    def backward(backend: str) -> Callable[..., Any]:
        def run(q: Any, k: Any, v: Any, dout: Any, scale: float, causal: float) -> Any:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            if 0 in (*q.shape, *k.shape):
                raise NotImplementedError("torch takes no empty sequences")
            if causal and q.shape[1] != k.shape[1]:
                raise NotImplementedError("torch aligns the mask to the first query")
            leaves = [t.clone().requires_grad_() for t in (q, k, v)]
            try:
                with sdpa_kernel(getattr(SDPBackend, backend)):
                    out = F.scaled_dot_product_attention(
                        *(t.transpose(1, 2) for t in leaves), scale=scale, is_causal=bool(causal)
                    )
                    out.backward(dout.transpose(1, 2))
            except RuntimeError as error:
                if _refused(error):
                    raise NotImplementedError("this backend does not take the case") from None
                raise
            return tuple(t.grad for t in leaves)

        return run

    for backend in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"):
        short = backend.split("_")[0].lower()
        yield subject("attention-backward", "bfloat16", f"torch SDPA, {short}", backward(backend))
