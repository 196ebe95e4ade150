"""Print the peak memory of one loss with its gradient, in MB; run as a program.

python peak_memory.py plain|checkpointed|none
"""

import sys
from pathlib import Path

import torch
import torch._dynamo  # checkpoints load it: 140 MB that are none of theirs
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atcon import ConsistencyLoss


class Deep(nn.Module):
    """Sixteen equal blocks on large maps: nearly all memory is activations."""

    def __init__(self, *, saves: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(self.layer() for _ in range(4))) for _ in range(4)
        )
        self.head, self.saves = nn.Linear(16, 4), saves

    @staticmethod
    def layer() -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.saves else block(x)
        return self.head(x.mean(dim=(2, 3)))


def main() -> None:
    torch.manual_seed(0)
    kind = sys.argv[1]
    loss = ConsistencyLoss(Deep(saves=kind == "checkpointed"), layer="blocks.3")
    size = 16 if kind == "none" else 160
    loss(torch.randn(4, 3, size, size)).backward()
    # not `getrusage`, whose peak begins with that of the process which started this one
    status = Path("/proc/self/status").read_text(encoding="ascii").split()
    print(int(status[status.index("VmHWM:") + 1]) // 1024)  # noqa: T201  its result


if __name__ == "__main__":
    main()
