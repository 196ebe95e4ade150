"""What the page of a small experiment shows, made by hand."""


def mark(value: float, *, clear: bool = False) -> dict:
    return {"value": value, "low": value - 1, "high": value + 1, "clear": clear, "p": 0.04}


def paper_table() -> dict:
    """Two rows: the one compared with, which has nothing at N = 4, and ours."""
    printed = {"low": None, "high": None, "star": False}
    gain = {"value": 2.5, "low": 0.5, "high": 4.7, "p": 0.02, "star": True}
    bare = {"value": 4.2, "low": None, "high": None, "p": None, "star": False}
    before = {"printed": {**printed, "value": 38.3}, "value": 18.7, "low": 14.4, "high": 22.5}
    after = [
        {"printed": {**printed, "value": 41.2, "star": True}, "value": 21.2, "low": 18.3,
         "high": 23.8, "difference": gain},
        {"printed": {"value": 51.6, "low": 50.0, "high": 53.0}, "value": 38.9, "difference": bare},
    ]  # fmt: skip
    return {
        "metric": "f1", "title": "F1", "sizes": [2, 4], "against": "baseline",
        "note": "Over seeds and test images.",
        "rows": [
            {"network": "", "title": "base<b>line", "entries": [before, {"value": None}]},
            {"network": "resnet50", "title": "ours", "entries": after},
        ],
    }  # fmt: skip


def page_with(**changes) -> dict:
    titles = {"supervised": "supervised", "simclr": "Sim<b>CLR", "consistency": "ours"}
    arms = {"simclr": [mark(-3.0), None], "consistency": [mark(2.0, clear=True), mark(0.5)]}
    content = {
        "name": "small", "title": "a <i>small</i> one", "unit": "images", "level": 0.95,
        "protocol": [["Data", "digits & more"]], "sizes": [2, 4], "titles": titles,
        "cells": [
            {"per_class": n, "seed": seed, "finished": (n, seed) != (4, 1), "seconds": 60.0}
            for n in (2, 4) for seed in (0, 1)
        ],
        "gains": [{"metric": "map", "title": "mAP", "against": "supervised", "arms": arms}],
        "values": [{"metric": "map", "title": "mAP", "arms": {"supervised": [mark(40.0)] * 2}}],
        "seconds": {"simclr": [{"seconds": 75.0, "epochs": [10, 0]}, None]},
        "followed": None,
    }  # fmt: skip
    return content | changes
