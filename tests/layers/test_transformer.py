"""The transformer: against torch's own layer, what it may see, and what cannot be built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fallline.errors import BadTask, BadValue
from fallline.layers import transformer
from fallline.layers.transformer import Block, Transformer


def made(**options: Any) -> Transformer:
    torch.manual_seed(0)
    model = transformer(11, **{"width": 12, "heads": 3, "depth": 2, "context": 6, **options})
    assert isinstance(model, Transformer)
    return model.double()


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(1))


def as_torch_has_it(block: Block, width: int, heads: int) -> nn.Module:
    """A layer of torch's encoder with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    own, inner = dict(block.named_parameters()), {}
    for kind in ("weight", "bias"):
        packed = torch.cat([own[f"attention.{part}.{kind}"] for part in ("query", "key", "value")])
        inner[f"self_attn.in_proj_{kind}"] = packed
        theirs = ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
        ours = ("attention.output", "mlp.0", "mlp.2", "before_attention", "before_mlp")
        inner.update({f"{t}.{kind}": own[f"{o}.{kind}"] for t, o in zip(theirs, ours, strict=True)})
    layer.load_state_dict(inner)
    return layer


def test_it_computes_what_torch_computes():
    model, seen = made(), tokens(4, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    x = model.tokens.weight[seen] + model.places.weight
    for block in model.blocks:
        x = as_torch_has_it(block, 12, 3)(x, src_mask=mask, is_causal=True)
    expected = model.output(model.norm(x)).movedim(-1, 1)
    torch.testing.assert_close(model(seen), expected, rtol=1e-12, atol=1e-12)


def test_a_token_depends_on_earlier_ones_alone():
    model, seen = made(), tokens(1, 6)
    for place in range(6):
        other = seen.clone()
        other[:, place] = (seen[:, place] + 1) % 11
        changed = (model(seen) != model(other)).any(1)[0]
        assert not changed[:place].any()
        assert changed[place:].all()


def test_without_places_the_order_of_the_past_means_nothing():
    """What is near is known by the learned places alone."""
    model, seen = made(depth=1), tokens(1, 6)
    swapped = seen[:, [2, 0, 1, 4, 3, 5]]
    assert not torch.allclose(model(seen)[..., -1], model(swapped)[..., -1])
    with torch.no_grad():
        model.places.weight.zero_()
    torch.testing.assert_close(model(seen)[..., -1], model(swapped)[..., -1])


def test_shorter_sequences_are_read_as_the_beginning_of_longer_ones():
    model, seen = made(), tokens(3, 6)
    torch.testing.assert_close(model(seen[:, :4]), model(seen)[..., :4])
    assert model(seen).shape == (3, 11, 6)


def test_the_activation_of_its_mlps_is_the_one_asked_for():
    kinds = [[type(m) for m in block.mlp] for block in made(activation="relu").blocks]
    assert kinds == [[nn.Linear, nn.ReLU, nn.Linear]] * 2


def test_dropout_is_of_training_alone():
    model, seen = made(dropout=0.3), tokens(2, 6)
    assert not torch.equal(model(seen), model(seen))
    model.eval()
    assert torch.equal(model(seen), model(seen))
    torch.testing.assert_close(model(seen), made().eval()(seen))


REFUSED = {
    "depth": ({"depth": 0}, r"^depth of a transformer is a whole number of at least 1, got 0$"),
    "context": ({"context": 2.0}, r"^context of a transformer is a whole number of at least 1, got 2.0$"),
    "heads": ({"heads": 5}, r"^each head takes an equal share of the width: 12 cannot be divided by 5$"),
    "dropout": ({"dropout": 1.5}, r"^dropout of a transformer is a share from 0 to 1, got 1.5$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused(name: str):
    options, told = REFUSED[name]
    with pytest.raises(BadValue, match=told):
        made(**options)


def test_a_sequence_that_is_too_long_is_refused():
    with pytest.raises(BadTask, match=r"^sequences of 7 tokens do not fit into a transformer of context=6$"):
        made()(tokens(2, 7))
