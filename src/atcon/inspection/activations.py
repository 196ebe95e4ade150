"""Which activations the guided rule reaches."""

from collections.abc import Iterator, Mapping

from atcon.attention.coverage import coverage_of
from atcon.inspection.finding import Finding, error, ok, warning
from atcon.inspection.subject import Subject


def activations(subject: Subject) -> Iterator[Finding]:
    """Guided Backpropagation is guided where every activation obeys the rule."""
    seen = coverage_of(subject.run)
    gates = f"; gates, left as they are: {_kinds(seen.gates)}" if seen.gates else ""
    values = {"guided": seen.by_kind, "unguided": seen.unguided, "gates": seen.gates}
    if seen.hidden:
        parts = "; ".join(f"{name} ({why})" for name, why in seen.hidden.items())
        yield error(
            f"activations that the guided rule does not see: {parts}",
            "build those parts from Python modules with activations of torch.nn.functional, and "
            "load the same weights",
            hidden=seen.hidden,
        )
    elif not seen.guided:
        found = f" (there are {_kinds(seen.unguided)})" if seen.unguided else ""
        yield error(
            f"no activation obeys the guided rule{found}: Guided Backpropagation, which the "
            "presets mask with, would be the plain gradient",
            "use activations of torch.nn.functional, or ConsistencyLoss with maps that need none",
            **values,
        )
    elif seen.unguided:
        yield warning(
            f"guided: {_kinds(seen.by_kind)}; not guided: {_kinds(seen.unguided)}{gates}. The map "
            "lies between Guided Backpropagation and the plain gradient",
            "put an activation with a guided form in their place, or take the map for what it is",
            **values,
        )
    else:
        yield ok(f"guided: {_kinds(seen.by_kind)}{gates}", **values)


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
