"""An inspection borrows the network: afterwards it is as it was, whatever was found."""

import pytest
import torch
from condition import Breaks, assert_same, condition, prepared
from tiny import NETWORKS, network, pictures

import atcon


@pytest.mark.parametrize("built", NETWORKS)
def test_an_inspection_leaves_the_network_as_it_found_it(built):
    model, images = prepared(built), pictures()
    before, pictures_before = condition(model), images.clone()
    atcon.check(model, images, cost=built == "edits")
    assert_same(before, condition(model))
    assert torch.equal(images, pictures_before)
    assert images.grad is None


def test_a_network_that_fails_is_left_as_it_was_and_its_words_are_reported_once():
    model = Breaks().train()
    before = condition(model)
    found = atcon.check(model, pictures())
    assert_same(before, condition(model))
    said = [finding for finding in found.findings if "out of paper" in finding.what]
    assert found.level == "error"
    assert said
    assert all(finding.fix for finding in found.findings if finding.level == "error")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_change_what_is_found(mode):
    model = network("plain")
    outside = atcon.check(model, pictures(), cost=False)
    with mode():
        inside = atcon.check(model, pictures(), cost=False)
    assert inside == outside
