"""Groups (patients, recordings, street images) that are in more than one part."""

from collections import defaultdict
from collections.abc import Iterator

from atcon.data.checks.finding import Finding, counted, listed
from atcon.data.checks.subject import Entry, Subject


def groups(subject: Subject) -> Iterator[Finding]:
    """Find groups that are divided, and images without a group among others that have one."""
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in subject.entries:
        if entry.example.group is not None:
            members[entry.example.group].append(entry)
    divided = {group: found for group, found in members.items() if subject.apart(found)}
    if divided:
        parts = {
            group: sorted({subject.drawn.get(e.example.name, e.part) for e in found})
            for group, found in divided.items()
        }
        said = [f"{group} ({' and '.join(parts[group])})" for group in parts]
        yield Finding(
            "",
            "harm",
            f"{counted(len(divided), 'group')} of {len(members):,} in several parts: "
            f"{listed(said)}",
            "put all of a group into one part; without a split of its own, data.group keeps "
            "groups together",
            tuple({"group": group, "parts": found} for group, found in parts.items()),
        )
    without = [e.name for e in subject.entries if e.example.group is None]
    if members and without:
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(without))} without a group, while others have one: "
            f"{listed(without)}. Each counts as a group of its own",
            "name their groups, if they have one",
            tuple(without),
        )
