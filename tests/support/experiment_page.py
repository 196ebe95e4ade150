"""What the page of a small experiment shows, made by hand."""


def mark(value: float, *, clear: bool = False) -> dict:
    return {"value": value, "low": value - 1, "high": value + 1, "clear": clear, "p": 0.04}


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
