"""The contract of a layer, as functions of its declaration; a check that a layer breaks raises.

A declaration has small samples of the layer. Each is built anew, and its weights are drawn at random, so that what
it keeps, it keeps for all weights and not for those that it starts with.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fallline.errors import FalllineError
from fallline.layers.declared import Declaration, Sample

EXAMPLES, SEEDS, TOLERANCE = 4, 3, 1e-6


def built(declared: Declaration, sample: Sample, seed: int = 0) -> nn.Module:
    """A sample in float64, with random weights that leave signals at about their size; running variances are positive."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = sample.build(declared.make).double()
        with torch.no_grad():
            for p in module.parameters():
                p.normal_(std=1.0 if p.ndim < 2 else p[0].numel() ** -0.5)
            for name, b in module.named_buffers():
                if "running" in name:
                    b.uniform_(0.5, 2.0)
    return module


def inputs(sample: Sample, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    shape = (EXAMPLES, *sample.shape)
    if sample.tokens:
        return torch.randint(sample.tokens, shape, generator=random)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def output(y: Any) -> Tensor:
    """What a layer gives, without the states of a recurrent one."""
    return y[0] if isinstance(y, tuple) else y


def calling(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A layer as a function: what it keeps of one call (running means) is not seen by the next."""
    return lambda x: output(copy.deepcopy(module)(x)).detach()


def samples(declared: Declaration) -> Iterator[tuple[Sample, int]]:
    assert declared.samples, "no samples"
    return ((sample, seed) for sample in declared.samples for seed in range(SEEDS))


# --- what it keeps ------------------------------------------------------------------------------------------


def check_symmetry(declared: Declaration) -> None:
    """What it declares holds to 1e-6, for random weights and inputs."""
    for sample, seed in samples(declared):
        f, x, other = (
            calling(built(declared, sample, seed)),
            inputs(sample, 2 * seed),
            inputs(sample, 2 * seed + 1),
        )
        for symmetry in sample.symmetries:
            error = float(symmetry.error(f, x, other).abs().max())
            assert error <= TOLERANCE, f"does not keep: {symmetry.name} (off by {error:.1e})"


def check_teeth(declared: Declaration) -> None:
    """A function that knows nothing breaks what the layer keeps: the law says something."""
    for sample in declared.samples:
        x, other = inputs(sample, 0), inputs(sample, 1)
        y = calling(built(declared, sample))(x)
        random = torch.Generator().manual_seed(2)
        n = x[0].numel()
        first = torch.randn(n, 16, generator=random, dtype=torch.float64)
        second = 50 * torch.randn(16, y[0].numel(), generator=random, dtype=torch.float64)

        def ignorant(
            x: Tensor, first: Tensor = first, second: Tensor = second, shape: Any = y.shape[1:]
        ) -> Tensor:
            hidden = (x.flatten(1).to(torch.float64) @ first / first.shape[0] ** 0.5).cos()
            return (hidden @ second).unflatten(1, shape)

        for symmetry in sample.symmetries:
            error = float(symmetry.error(ignorant, x, other).abs().max())
            assert error > 1e-3, f"says nothing: {symmetry.name} holds for any function"


def check_listens(declared: Declaration) -> None:
    """Outputs depend on inputs and on every weight, so that nothing is kept by saying nothing."""
    for sample, seed in samples(declared):
        module, x = built(declared, sample, seed), inputs(sample, seed)
        assert not torch.equal(calling(module)(x), calling(module)(inputs(sample, seed + 99))), (
            "ignores its inputs"
        )
        loss = output(module(x)).sin().sum()
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True) if named else ()
        unused = [name for (name, _), g in zip(named, grads, strict=True) if g is None]
        assert not unused, f"does not use {unused}"


# --- fleets -------------------------------------------------------------------------------------------------


def check_fleet(declared: Declaration) -> None:
    """Gradients of runs with weights of their own, in one batch, are those of each by itself."""
    for sample in declared.samples:
        modules = [built(declared, sample, seed) for seed in range(SEEDS)]
        params, buffers = ({k: v.detach() for k, v in t.items()} for t in stack_module_state(modules))
        xs = torch.stack([inputs(sample, seed) for seed in range(SEEDS)])
        bare = copy.deepcopy(modules[0])

        def loss(p: Any, b: Any, x: Tensor, bare: nn.Module = bare) -> Tensor:
            return output(functional_call(bare, {**p, **b}, (x,))).sin().sum()

        solo = [
            grad(loss)(
                {k: v[i].clone() for k, v in params.items()},
                {k: v[i].clone() for k, v in buffers.items()},
                xs[i],
            )
            for i in range(SEEDS)
        ]
        together = vmap(grad(loss), randomness="different")
        with sdpa_kernel(SDPBackend.MATH):  # others have no batched form, and say so by a warning
            whole = together(params, {k: v.clone() for k, v in buffers.items()}, xs)
        for name, batched in whole.items():
            apart = torch.stack([each[name] for each in solo])
            far = float((batched - apart).abs().max() / apart.abs().max().clamp(min=1.0))
            assert far < 1e-10, f"the gradient of {name} differs in a fleet by {far:.1e}"


def check_dtype(declared: Declaration) -> None:
    """float32 in, float32 out."""
    for sample in declared.samples:
        x = inputs(sample, 0)
        y = calling(built(declared, sample).float())(x if sample.tokens else x.float())
        assert y.dtype == torch.float32, f"float32 becomes {y.dtype}"


# --- words and refusals -------------------------------------------------------------------------------------


def check_bias(declared: Declaration) -> None:
    """It states its inductive bias in one sentence."""
    text = declared.bias
    assert text, "does not say 'Inductive bias: …'"
    assert text.endswith("."), "its inductive bias does not end as a sentence does"
    assert ". " not in text, "its inductive bias is more than one sentence"


def check_refusals(declared: Declaration) -> None:
    """Sizes that are no whole numbers above 0 and names that nobody knows are refused by a sentence of ours."""
    signature = inspect.signature(declared.make)
    kinds = {p.kind for p in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds or declared.make.__module__.startswith("torch."):
        return  # torch's own arguments, which torch refuses
    calls: list[inspect.BoundArguments] = []

    def of(*args: Any, **options: Any) -> nn.Module:
        calls.append(signature.bind(*args, **options))
        return declared.make(*args, **options)

    for sample in declared.samples:
        sample.build(of)
    for bound in calls:
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            for wrong in _wrong(
                value, signature.parameters[name].kind, signature.parameters[name].annotation
            ):
                changed = copy.copy(bound)
                changed.arguments = {**bound.arguments, name: wrong}
                with pytest.raises(FalllineError):
                    declared.make(*changed.args, **changed.kwargs)


def _wrong(value: Any, kind: Any, annotation: Any) -> Iterator[Any]:
    """Values of an argument that make no sense."""
    if kind is inspect.Parameter.VAR_POSITIONAL:
        for i in range(len(value)):
            yield from ((*value[:i], wrong, *value[i + 1 :]) for wrong in (0, -1, 1.5, "3", True))
    elif annotation in ("int", int) and not isinstance(value, bool):
        yield from (-1, 1.5, "3", True)
    elif annotation in ("str", str):
        yield from (f"{value}_", "")


CHECKS: dict[str, Callable[[Declaration], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
