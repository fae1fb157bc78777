"""Rules of relevance propagation as data, and composites: which rule goes to which kind of layer.

A rule hands the relevance ``r`` of a linear layer's outputs to its inputs. It is a tuple of branches; each branch
shares out ``share * r`` in proportion to the contributions of its terms; a term says what stands for the input and
what for the weights. The names of the composites are those of zennit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Apply = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A linear layer as a function of input, weight and bias."""


def same(t: Tensor) -> Tensor:
    """Return what is given."""
    return t


def up(t: Tensor) -> Tensor:
    """Return the positive part."""
    return t.clamp(min=0)


def down(t: Tensor) -> Tensor:
    """Return the negative part."""
    return t.clamp(max=0)


def _lowest(x: Tensor) -> Tensor:
    return x.amin(_places(x), keepdim=True).expand_as(x)


def _highest(x: Tensor) -> Tensor:
    return x.amax(_places(x), keepdim=True).expand_as(x)


def _places(x: Tensor) -> tuple[int, ...]:
    """The axes over which an image's own range is taken: each channel of an image has its own."""
    return tuple(range(2 if x.ndim > 2 else 1, x.ndim))


@dataclass(frozen=True)
class Term:
    """Contributions ``sign * take(x) * weigh(weight)``, with ``weigh(bias)`` if the bias takes part."""

    take: Callable[[Tensor], Tensor] = same
    weigh: Callable[[Tensor], Tensor] = same
    bias: bool = False
    sign: float = 1.0


@dataclass(frozen=True)
class Branch:
    """A share of the relevance, handed on in proportion to the terms' contributions.

    Attributes:
        terms: what the contributions are.
        share: how much of the relevance.
        outputs: 1 or -1: only for outputs of the layer with this sign.
        relevance: 1 or -1: only for relevance of this sign.
    """

    terms: tuple[Term, ...]
    share: float = 1.0
    outputs: int = 0
    relevance: int = 0


Rule = tuple[Branch, ...]

_FOR = (Term(up, up, bias=True), Term(down, down))
"""What raises an output: positive inputs through positive weights, negative through negative ones."""
_AGAINST = (Term(up, down, bias=True), Term(down, up))

EPSILON: Rule = (Branch((Term(bias=True),)),)
PLUS: Rule = (Branch(_FOR),)
FLAT: Rule = (Branch((Term(torch.ones_like, torch.ones_like),)),)
BOX: Rule = (Branch((Term(), Term(_lowest, up, sign=-1), Term(_highest, down, sign=-1))),)
"""z-box: the smallest and the largest value of each channel of the input are the box; biases cancel."""


def alpha_beta(alpha: float, beta: float) -> Rule:
    """Positive contributions count ``alpha``, negative ones ``-beta``."""
    return (Branch(_FOR, alpha), Branch(_AGAINST, -beta))[: 2 if beta else 1]


def gamma_rule(gamma: float) -> Rule:
    """Contributions of the output's own sign are strengthened by ``gamma``, for inputs of either sign."""

    def more_up(w: Tensor) -> Tensor:
        return w + gamma * up(w)

    def more_down(w: Tensor) -> Tensor:
        return w + gamma * down(w)

    return (
        Branch((Term(up, more_up, bias=True), Term(down, more_down)), outputs=1),
        Branch((Term(up, more_down, bias=True), Term(down, more_up)), outputs=-1),
    )


def mirrored(rule: Rule) -> Rule:
    """Return the rule for an output layer that explains some outputs ``y`` and of others their opposite ``-y``.

    Negative relevance marks the opposite: it is shared out over the layer with its weights negated.
    """

    def negated(weigh: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda w: weigh(-w)

    opposite = (
        replace(
            branch,
            terms=tuple(replace(term, weigh=negated(term.weigh)) for term in branch.terms),
            share=-branch.share,
            relevance=-1,
        )
        for branch in rule
    )
    return (*(replace(branch, relevance=1) for branch in rule), *opposite)


@dataclass(frozen=True)
class Composite:
    """Which rule goes to which layers.

    Attributes:
        convolution: rule of convolutions.
        linear: rule of linear layers.
        first: rule of layers that read the image itself, when it is another one.
        last: rule of layers whose outputs are the model's, when it is another one.
        bias: whether biases take part, and so absorb relevance.
        positive: sums and pooling share relevance between their positive inputs only, as a z-plus layer would.
        affine: normalisation that can neither be merged into a layer nor pass relevance on safely is an affine layer
            under the epsilon rule, its deviation a constant; else it always passes relevance on.
    """

    convolution: Rule
    linear: Rule
    first: Rule | None = None
    last: Rule | None = None
    bias: bool = True
    positive: bool = False
    affine: bool = True

    @property
    def again(self) -> int:
        """How often the rule of convolutions evaluates a layer beside the model's own forward pass and one backward.

        By definition, for inputs that are not negative, as behind a ReLU: once forwards and once backwards for every
        set of changed weights, the one backward pass that every method makes taken off. The epsilon rule changes none.
        """
        terms = (term for branch in self.convolution for term in branch.terms if term.take is not down)
        return 0 if self.convolution is EPSILON else 2 * sum(1 for _ in terms) - 1


WITHOUT_BIAS = Composite(PLUS, PLUS, bias=False, affine=False)
"""z-plus everywhere, nothing absorbed: how much reaches a place inside the network."""


def composites(gamma: float = 0.25) -> dict[str, Composite]:
    """Return the composites by name."""
    return {
        "epsilon_plus": Composite(PLUS, EPSILON),
        "epsilon_plus_flat": Composite(PLUS, EPSILON, first=FLAT),
        "epsilon_alpha2_beta1": Composite(alpha_beta(2, 1), EPSILON),
        "epsilon_alpha2_beta1_flat": Composite(alpha_beta(2, 1), EPSILON, first=FLAT),
        "epsilon_gamma_box": Composite(gamma_rule(gamma), EPSILON, first=BOX),
    }


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """Move a denominator away from zero."""
    least = max(epsilon, torch.finfo(z.dtype).tiny)
    return torch.copysign(z.new_full((), least), z).add_(z)  # many times faster than a choice by z >= 0


def per_unit(r: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """Return the relevance of every output for each unit of its value."""
    least = stabilised(z, epsilon)
    return torch.div(r, least, out=least)


@dataclass(eq=False)
class Layer:
    """A linear layer with its rule: called with relevance and input, it returns the relevance of the input.

    ``positive`` says where the layer's outputs are above 0, for rules that ask. ``known``, where it is not None, keeps
    what a branch evaluates for the next backward pass of the same input.
    """

    apply: Apply
    weight: Tensor
    bias: Tensor | None
    rule: Rule
    epsilon: float
    positive: Tensor | None = field(default=None)
    known: dict[Branch, tuple[list[Tensor], Tensor]] | None = field(default=None)

    def __call__(self, r: Tensor, x: Tensor) -> tuple[Tensor]:
        """Return the relevance of the input, as a backward rule does."""
        split = any(term.take is down for branch in self.rule for term in branch.terms)
        nonnegative = split and bool(x.amin() >= 0)
        found: Tensor | None = None
        for branch in self.rule:
            part = self._part(branch, r)
            if part is None:
                continue
            leaves, z = self._evaluated(branch, x, nonnegative)
            share = per_unit(part, z.detach(), self.epsilon)
            slopes = torch.autograd.grad(z, leaves, share, retain_graph=self.known is not None)
            for leaf, slope in zip(leaves, slopes, strict=True):
                own = slope.mul_(leaf.detach())
                found = own if found is None else found.add_(own)
        return (torch.zeros_like(x) if found is None else found,)

    def _evaluated(self, branch: Branch, x: Tensor, nonnegative: bool) -> tuple[list[Tensor], Tensor]:
        """Return what the terms of a branch take of the input, and the sum of their contributions."""
        if self.known is not None and branch in self.known:
            return self.known[branch]
        leaves: list[Tensor] = []
        total: Tensor | None = None
        for term in branch.terms:
            if nonnegative and term.take is down:
                continue  # most inputs come from a ReLU: half of the work is not needed
            taken = x if nonnegative and term.take is up else term.take(x)
            leaves.append(taken.detach().requires_grad_())
            bias = term.weigh(self.bias) if term.bias and self.bias is not None else None
            with torch.enable_grad():
                own = self.apply(leaves[-1], term.weigh(self.weight), bias)
                own = own if term.sign == 1 else term.sign * own
                total = own if total is None else total + own
        assert total is not None
        if self.known is not None:
            self.known[branch] = leaves, total
        return leaves, total

    def _part(self, branch: Branch, r: Tensor) -> Tensor | None:
        """Return the relevance that a branch shares out, None if there is none."""
        if branch.relevance:
            r = up(r) if branch.relevance > 0 else down(r)
            if not r.any():
                return None
        if branch.outputs:
            assert self.positive is not None
            r = r * (self.positive if branch.outputs > 0 else ~self.positive)
        return r * branch.share if branch.share != 1 else r
