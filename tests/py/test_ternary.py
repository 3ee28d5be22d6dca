"""The quantisers and the norm: values as the file has them, gradients as the formulas say."""

import torch

from lm.arch.ternary import RMSNorm, embedding_codes, quantize_activation, straight_through, weight_codes


def test_the_norm_has_the_value_and_the_gradients_of_its_formula():
    generator = torch.Generator().manual_seed(1)
    norm = RMSNorm(48, 1e-3)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=generator)
    x = torch.randn(3, 5, 48, generator=generator).requires_grad_()
    out = torch.randn(3, 5, 48, generator=generator)
    found = torch.autograd.grad(norm(x), [x, norm.weight], out)
    plain = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight.double()
    expected = torch.autograd.grad(plain, [x, norm.weight], out.double())
    torch.testing.assert_close(norm(x).double(), plain)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_norm_is_zero_along_its_input():
    x = torch.randn(4, 32).requires_grad_()
    gradient = torch.autograd.grad((RMSNorm(32, 1e-12)(x) * torch.randn(32)).sum(), x)[0]
    torch.testing.assert_close((gradient * x).sum(-1), torch.zeros(4), rtol=0, atol=1e-4)


def test_a_quantised_vector_has_127_steps_and_the_gradient_of_the_vector():
    x = torch.tensor([[-2.54, 0.013, 0.031, 1.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    value = quantize_activation(x)
    torch.testing.assert_close(value, torch.tensor([[-2.54, 0.02, 0.04, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    assert torch.equal(torch.autograd.grad(value, x, weights)[0], weights)
    assert torch.equal(x.detach()[0, 1], torch.tensor(0.013)), "the vector itself stays"


def test_a_master_is_seen_as_its_codes_and_gets_their_gradient():
    master = torch.randn(6, 20, generator=torch.Generator().manual_seed(2)).requires_grad_()
    codes, scale = weight_codes(master)
    value = straight_through(master, codes, scale)
    assert torch.equal(value, codes * scale)
    assert torch.equal(torch.autograd.grad(value, master, codes.float())[0], codes.float())
    rows, scales = embedding_codes(master)
    assert torch.equal(straight_through(master, rows, scales[:, None]), rows * scales[:, None])


def test_a_parameter_is_quantised_once_until_it_changes():
    master = torch.nn.Parameter(torch.randn(6, 20, generator=torch.Generator().manual_seed(3)))
    first = weight_codes(master)
    assert weight_codes(master)[0] is first[0]
    optimizer = torch.optim.SGD([master], lr=1.0)
    (master.sum() * 0.5).backward()
    optimizer.step()
    after, fresh = weight_codes(master), weight_codes(master.detach().clone())
    assert torch.equal(after[0], fresh[0]) and after[1] == fresh[1] and not torch.equal(after[0], first[0])
    master.data = -master.data
    assert torch.equal(weight_codes(master)[0], -after[0])
