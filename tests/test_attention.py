"""Rollout and transformer relevance against independent writings, for fused and unfused attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import ViT, images

from runners import explain
from taxonomy import TargetError


def vit(kind: str = "handwritten", **options: object) -> ViT:
    torch.manual_seed(5)
    return ViT(kind=kind, **options).eval()  # type: ignore[arg-type]


def weights_of(model: ViT, x: Tensor) -> list[Tensor]:
    """Attention weights of the hand-written toy, recomputed from its layers."""
    found = []
    t = model.embed(x).flatten(2).transpose(1, 2)
    t = torch.cat([model.extra.expand(len(t), -1, -1), t], 1) + model.position
    for block in model.blocks:
        b, n, d = t.shape
        q, k, _ = block.attn.qkv(block.norm1(t)).reshape(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        found.append((q @ k.transpose(-2, -1) / (d // 4) ** 0.5).softmax(-1).detach())
        t = block(t)
    return found


def test_rollout_by_hand() -> None:
    model, x = vit(), images("vit_fused")
    joint = torch.eye(17).expand(2, -1, -1)
    for a in weights_of(model, x):
        joint = (0.5 * a.mean(1) + 0.5 * torch.eye(17)) @ joint
    expected = F.interpolate(joint[:, 0, 1:].reshape(2, 1, 4, 4), (32, 32), mode="bilinear")[:, 0]
    assert torch.allclose(explain(model, x, "attention_rollout").values, expected, atol=1e-6)


@pytest.mark.parametrize("block", [0, 1, -1])
def test_raw_attention_is_that_of_the_block(block: int) -> None:
    model, x = vit(), images("vit_fused")
    row = weights_of(model, x)[block].mean(1)[:, 0, 1:]
    expected = F.interpolate(row.reshape(2, 1, 4, 4), (32, 32), mode="bilinear")[:, 0]
    assert torch.allclose(explain(model, x, "raw_attention", block=block).values, expected, atol=1e-6)


def test_a_block_that_is_not_there_is_told() -> None:
    with pytest.raises(TargetError, match="block=9 was given; the model has 3 blocks"):
        explain(vit(), images("vit_fused"), "raw_attention", block=9)


def products(model: ViT, x: Tensor, target: int) -> list[Tensor]:
    """Attention times its gradient, block by block, from the layers of the hand-written toy."""
    t = model.embed(x).flatten(2).transpose(1, 2)
    t = torch.cat([model.extra.expand(len(t), -1, -1), t], 1) + model.position
    kept = []
    for block in model.blocks:
        b, n, d = t.shape
        q, k, v = block.attn.qkv(block.norm1(t)).reshape(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        kept.append((q @ k.transpose(-2, -1) / (d // 4) ** 0.5).softmax(-1))
        t = t + block.attn.out((kept[-1] @ v).transpose(1, 2).reshape(b, n, d))
        t = t + block.mlp(block.norm2(t))
    score = model.head(model.norm(t)[:, 0])[:, target].sum()
    return [a.detach() * g for a, g in zip(kept, torch.autograd.grad(score, kept), strict=True)]


@pytest.mark.parametrize("method", ["generic_attention", "gradient_attention_rollout"])
def test_attention_weighted_by_its_gradient_by_hand(method: str) -> None:
    model, x = vit(), images("vit_fused")
    joint = torch.eye(17).expand(2, -1, -1)
    for product in products(model, x, 1):
        if method == "generic_attention":
            joint = joint + product.clamp(min=0).mean(1) @ joint
        else:
            mixed = product.mean(1).clamp(min=0)
            mixed = mixed / mixed.sum(-1, keepdim=True)
            joint = (0.5 * mixed.nan_to_num() + 0.5 * torch.eye(17)) @ joint
            joint = joint / joint.sum(-1, keepdim=True)
    expected = F.interpolate(joint[:, 0, 1:].reshape(2, 1, 4, 4), (32, 32), mode="bilinear")[:, 0]
    found = explain(model, x, method, 1).values
    assert found.any()
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.max()))
    assert not torch.allclose(found, explain(model, x, method, 0).values, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize(
    "method",
    [
        *("raw_attention", "attention_rollout", "gradient_attention_rollout", "generic_attention", "chefer_lrp"),
        *("grad_cam", "vanilla_gradient", "attnlrp", "conservative_lrp"),
        *("attention_flow", "legrad", "grad_sam", "ag_cam", "beyond_intuition"),
    ],
)
def test_fused_attention_gives_the_same_map(method: str) -> None:
    plain, fused = vit("handwritten"), vit("fused")
    fused.load_state_dict(plain.state_dict())
    x = images("vit_fused")
    one, other = (explain(m, x, method, 0).values for m in (plain, fused))
    assert one.any()
    assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("method", ["attention_rollout", "chefer_lrp", "attnlrp", "conservative_lrp"])
def test_multi_head_attention_module_gives_the_same_map(method: str) -> None:
    plain, module = vit("handwritten"), vit("module")
    module.load_state_dict(
        {k: v for k, v in plain.state_dict().items() if not k.startswith("blocks")}
        | {k: v for k, v in module.state_dict().items() if k.startswith("blocks")}
    )
    with torch.no_grad():
        for ours, theirs in zip(plain.blocks, module.blocks.layers, strict=True):
            theirs.self_attn.in_proj_weight.copy_(ours.attn.qkv.weight)
            theirs.self_attn.in_proj_bias.copy_(ours.attn.qkv.bias)
            theirs.self_attn.out_proj.load_state_dict(ours.attn.out.state_dict())
            theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
            theirs.linear2.load_state_dict(ours.mlp[2].state_dict())
            theirs.norm1.load_state_dict(ours.norm1.state_dict())
            theirs.norm2.load_state_dict(ours.norm2.state_dict())
    x = images("vit_fused")
    assert torch.allclose(plain(x), module(x), atol=1e-5)
    one, other = (explain(m, x, method, 0).values for m in (plain, module))
    assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max()))


def slow_chefer(model: ViT, x: Tensor, target: int) -> Tensor:
    """Transformer relevance of one image, every rule written out (z-plus without bias, halves for products)."""
    eps = 1e-6

    def div(r: Tensor, z: Tensor) -> Tensor:
        return r / (z + eps * torch.where(z >= 0, 1.0, -1.0))

    def lin(layer: torch.nn.Linear, a: Tensor, r: Tensor) -> Tensor:
        wp, wn = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        ap, an = a.clamp(min=0), a.clamp(max=0)
        s = div(r, ap @ wp.T + an @ wn.T)
        return ap * (s @ wp) + an * (s @ wn)

    def share(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        s = div(r, a + b)
        return a * s, b * s

    t = model.embed(x).flatten(2).transpose(1, 2)[0]
    t = torch.cat([model.extra[0], t]) + model.position[0]
    kept = []
    n, d = t.shape
    h = 4
    gradients = []
    source = t.clone().requires_grad_()
    u = source
    for block in model.blocks:
        n1 = block.norm1(u)
        qkv = block.attn.qkv(n1)
        q, k, v = qkv.reshape(n, 3, h, d // h).permute(1, 2, 0, 3)
        logits = q @ k.transpose(-2, -1) * (d // h) ** -0.5
        a = logits.softmax(-1)
        gradients.append(a)
        mixed = (a @ v).transpose(0, 1).reshape(n, d)
        o = block.attn.out(mixed)
        mid = u + o
        n2 = block.norm2(mid)
        h1 = block.mlp[0](n2)
        g = block.mlp[1](h1)
        h2 = block.mlp[2](g)
        kept.append((u, n1, qkv, q, k, v, a, mixed, o, mid, n2, g, h2))
        u = mid + h2
    out = model.head(model.norm(u)[0])
    grads = torch.autograd.grad(out[target], gradients)
    with torch.no_grad():
        start = torch.zeros_like(out)
        start[target] = out[target].abs()
        final = model.norm(u)
        r = torch.zeros_like(u)
        r[0] = lin(model.head, final[0], start)
        joint = torch.eye(n)
        steps = []
        for (u0, n1, _, q, k, v, a, mixed, o, mid, n2, g, h2), grad in zip(
            reversed(kept), reversed(grads), strict=True
        ):
            r_mid, r_h2 = share(mid, h2, r)
            block = owner(model, kept, mid)
            r_g = lin(block.mlp[2], g, r_h2)
            r_n2 = lin(block.mlp[0], n2, r_g)
            r_mid = r_mid + r_n2
            r_u, r_o = share(u0, o, r_mid)
            r_mixed = lin(block.attn.out, mixed, r_o).reshape(n, h, d // h).transpose(0, 1)
            s = div(r_mixed, a @ v)
            r_a, r_v = a * (s @ v.transpose(-2, -1)) / 2, v * (a.transpose(-2, -1) @ s) / 2
            steps.append((grad * r_a).clamp(min=0).mean(0))
            s = div(r_a, q @ k.transpose(-2, -1))
            r_q, r_k = q * (s @ k) / 2, k * (s.transpose(-2, -1) @ q) / 2
            r_qkv = torch.stack([r_q, r_k, r_v]).permute(2, 0, 1, 3).reshape(n, 3 * d)
            r = r_u + lin(block.attn.qkv, n1, r_qkv)
        for step in reversed(steps):
            joint = (torch.eye(n) + step) @ joint
    return joint[0, 1:].reshape(4, 4)


def owner(model: ViT, kept: list[tuple[Tensor, ...]], mid: Tensor):  # type: ignore[no-untyped-def]
    return model.blocks[next(i for i, entry in enumerate(kept) if entry[9] is mid)]


def test_transformer_relevance_equals_a_slow_second_writing() -> None:
    model, x = vit(), images("vit_fused", 1)
    expected = slow_chefer(model, x, 1)
    ours = explain(model, x, "chefer_lrp", 1).values
    slow = F.interpolate(expected[None, None], (32, 32), mode="bilinear")[0]
    assert slow.any()
    assert torch.allclose(ours, slow, atol=1e-3 * float(slow.max()))


def test_transformer_relevance_depends_on_the_target() -> None:
    model, x = vit("fused"), images("vit_fused")
    assert not torch.allclose(explain(model, x, "chefer_lrp", 0).values, explain(model, x, "chefer_lrp", 1).values)
    with_caution = explain(model, x, "attention_rollout", 0)
    assert any("does not depend on the target" in caution for caution in with_caution.cautions)


@pytest.mark.parametrize("method", ["attention_rollout", "chefer_lrp", "grad_cam", "attnlrp", "conservative_lrp"])
def test_tokens_before_the_batch_give_the_same_map(method: str) -> None:
    usual, turned = vit("module"), vit("tokens_first")
    turned.load_state_dict(usual.state_dict())
    x = images("vit_fused")
    one, other = (explain(m, x, method, 0).values for m in (usual, turned))
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize("method", ["attention_rollout", "chefer_lrp", "attnlrp", "conservative_lrp"])
def test_attention_written_with_einsum_gives_the_same_map(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, x = vit(), images("vit_fused")
    expected = explain(plain, x, method, 0).values

    def forward(self: torch.nn.Module, t: Tensor) -> Tensor:
        b, n, d = t.shape
        q, k, v = self.qkv(t).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (torch.einsum("bhqd,bhkd->bhqk", q, k) * (d // self.heads) ** -0.5).softmax(-1)
        return self.out(torch.einsum("bhqk,bhkd->bhqd", weights, v).transpose(1, 2).reshape(b, n, d))

    monkeypatch.setattr(type(plain.blocks[0].attn), "forward", forward)
    found = explain(plain, x, method, 0).values
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.max()))


def attended(model: ViT, x: Tensor, target: int, skip_to_end: int | None = None) -> tuple[list[Tensor], ...]:
    """Scores before the softmax, attention and its gradient in each block of the hand-written toy.

    With ``skip_to_end`` the tokens leave the blocks after that one.
    """
    t = model.embed(x).flatten(2).transpose(1, 2)
    t = torch.cat([model.extra.expand(len(t), -1, -1), t], 1) + model.position
    before, kept = [], []
    for number, block in enumerate(model.blocks):
        b, n, d = t.shape
        q, k, v = block.attn.qkv(block.norm1(t)).reshape(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        before.append(q @ k.transpose(-2, -1) / (d // 4) ** 0.5)
        kept.append(before[-1].softmax(-1))
        t = t + block.attn.out((kept[-1] @ v).transpose(1, 2).reshape(b, n, d))
        t = t + block.mlp(block.norm2(t))
        if number == skip_to_end:
            break
    score = model.head(model.norm(t)[:, 0])[:, target].sum()
    grads = torch.autograd.grad(score, kept)
    return [b.detach() for b in before], [a.detach() for a in kept], list(grads)


def enlarged(row: Tensor) -> Tensor:
    """Values of the 16 image tokens behind the class token, on the image."""
    return F.interpolate(row[:, 1:].reshape(len(row), 1, 4, 4), (32, 32), mode="bilinear")[:, 0]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    assert found.any()
    return torch.allclose(found, expected, atol=tolerance * float(expected.abs().max()))


def test_grad_sam_by_hand() -> None:
    model, x = vit(), images("vit_fused")
    _, kept, grads = attended(model, x, 1)
    total = torch.zeros(2, 17)
    for a, g in zip(kept, grads, strict=True):
        for head in range(4):
            for token in range(17):
                total += a[:, head, token] * g[:, head, token].clamp(min=0)
    assert close(explain(model, x, "grad_sam", 1).values, enlarged(total / (3 * 4 * 17)))


def test_attention_guided_cam_by_hand() -> None:
    model, x = vit(), images("vit_fused")
    before, _, grads = attended(model, x, 1)
    total = torch.zeros(2, 17)
    for scores, g in zip(before, grads, strict=True):
        for head in range(4):
            total += g[:, head, 0].clamp(min=0) / (1 + (-scores[:, head, 0]).exp())
    expected = enlarged(total)
    for kind in ("handwritten", "fused"):
        other = vit(kind)
        other.load_state_dict(model.state_dict())
        assert close(explain(other, x, "ag_cam", 1).values, expected)


def test_legrad_by_hand() -> None:
    model, x = vit(), images("vit_fused")
    total = torch.zeros(2, 17)
    for block in range(3):
        _, _, grads = attended(model, x, 1, skip_to_end=block)
        total += grads[block].clamp(min=0).mean((1, 2))
    found = explain(model, x, "legrad", 1)
    assert close(found.values, enlarged(total / 3))
    assert "the model's own end" in " ".join(found.notes)


def test_legrad_where_no_block_can_be_skipped() -> None:
    class Unrolled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = vit()
            self.a, self.b, self.c = self.inner.blocks
            self.inner.blocks = torch.nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            t = self.inner.embed(x).flatten(2).transpose(1, 2)
            t = torch.cat([self.inner.extra.expand(len(t), -1, -1), t], 1) + self.inner.position
            return self.inner.head(self.inner.norm(self.c(self.b(self.a(t))))[:, 0])

    x = images("vit_fused")
    _, _, grads = attended(vit(), x, 1)
    found = explain(Unrolled().eval(), x, "legrad", 1)
    assert close(found.values, enlarged(torch.stack([g.clamp(min=0).mean((1, 2)) for g in grads]).mean(0)))
    assert "by the final score for all blocks" in " ".join(found.notes)


@pytest.mark.parametrize("start", [0.0, 0.4])
def test_bidirectional_attribution_by_hand(start: float) -> None:
    model, x = vit(), images("vit_fused")
    _, kept, grads = attended(model, x, 1)
    joint = torch.eye(17).expand(2, -1, -1)
    for a, g in list(zip(kept, grads, strict=True))[int(start * 3) :]:
        size = torch.stack([(a[:, h].mT @ g[:, h]).abs().mean((1, 2)) for h in range(4)], 1)
        share = size / size.sum(1, keepdim=True)
        joint = joint + sum(share[:, h, None, None] * a[:, h] for h in range(4)) @ joint
    feedback = torch.zeros(2, 4, 17, 17)
    for alpha in torch.linspace(0, 1, 5):
        feedback += attended(model, alpha * x, 1)[2][-1] / 5
    expected = enlarged(joint[:, 0] * feedback.clamp(min=0).mean(1)[:, 0])
    for size in (1, 7):
        found = explain(model, x, "beyond_intuition", 1, steps=5, start=start, batch_size=size).values
        assert close(found, expected, 1e-4)
    with pytest.raises(TargetError, match="start=1.5 was given; 0 to below 1 is allowed"):
        explain(model, x, "beyond_intuition", 1, start=1.5)


def slow_flow(matrices: list[Tensor], source: int) -> float:
    """Largest flow from a token in front of the first block to the class token behind the last, by networkx."""
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph()
    for layer, matrix in enumerate(matrices):
        for i in range(len(matrix)):
            for j in range(len(matrix)):
                graph.add_edge((layer, j), (layer + 1, i), capacity=float(matrix[i, j]))
    return float(networkx.maximum_flow_value(graph, (0, source), (len(matrices), 0)))


def test_attention_flow_by_hand() -> None:
    model, x = vit(), images("vit_fused")
    _, kept, _ = attended(model, x, 1)
    for image in range(2):
        matrices = [0.5 * a[image].mean(0) + 0.5 * torch.eye(17) for a in kept]
        flows = torch.tensor([slow_flow(matrices, token) for token in range(17)])
        found = explain(model, x, "attention_flow").values[image]
        assert close(found, enlarged(flows[None])[0], 1e-4)


def test_attention_flow_between_cells_of_tokens() -> None:
    model, x = vit(), images("vit_fused", 1)
    _, kept, _ = attended(model, x, 1)
    cell = [0] + [1 + (token // 4 // 2) * 2 + token % 4 // 2 for token in range(16)]
    member = F.one_hot(torch.tensor(cell)).float()
    mean = (member / member.sum(0)).T
    matrices = [mean @ (0.5 * a[0].mean(0) + 0.5 * torch.eye(17)) @ member for a in kept]
    flows = torch.tensor([slow_flow(matrices, token) for token in range(1, 5)])
    found = explain(model, x, "attention_flow", tokens=5)
    expected = F.interpolate(flows.view(1, 1, 2, 2), (32, 32), mode="bilinear")[0]
    assert close(found.values, expected, 1e-4)
    assert "merged to 2×2 cells" in " ".join(found.notes)
    assert any("approximate and coarser than the grid" in caution for caution in found.cautions)
    with pytest.raises(TargetError, match="tokens=0 was given"):
        explain(model, x, "attention_flow", tokens=0)


def test_places_that_all_reach_the_largest_flow_are_told() -> None:
    model, x = vit(), images("vit_fused", 1)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.zero_()  # every token attends to all alike
    found = explain(model, x, "attention_flow")
    assert any("100% of the places reach the largest flow" in caution for caution in found.cautions)


def test_a_token_that_nothing_attends_to_sends_no_flow() -> None:
    from runners.attention import _flows

    alone = torch.eye(3).numpy()
    assert _flows([alone, alone], range(3), [0]) == [1.0, 0.0, 0.0]
    mixed = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).numpy()
    assert _flows([alone, mixed], range(3), [0]) == [0.5, 0.25, 0.25]
    assert _flows([alone, mixed], range(3), [0, 1]) == [0.5, 1.0, 0.25]  # 0.25 to the first and the rest stays
