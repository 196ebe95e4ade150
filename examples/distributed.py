"""DistributedDataParallel: run me with `torchrun --nproc-per-node 2 distributed.py`.

The whole loss runs inside the wrapped module's forward pass. The last bias gets no gradient from
the consistency loss, which DistributedDataParallel has to be told. A module that adds a supervised
loss needs no `find_unused_parameters`. With FSDP2 it is `fully_shard(ConsistencyLoss(model))`.
"""

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18

from atcon import ConsistencyLoss

torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank = torch.distributed.get_rank()
device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")

torch.manual_seed(0)
model = resnet18(num_classes=5).to(device)
loss = DistributedDataParallel(ConsistencyLoss(model), find_unused_parameters=True)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

torch.manual_seed(rank)  # each process has images of its own
for _ in range(3):
    optimizer.zero_grad()
    value = loss(torch.randn(2, 3, 64, 64, device=device))
    value.backward()
    optimizer.step()

largest = torch.stack([w.detach().abs().max() for w in model.parameters()]).max()
print(f"process {rank}: loss {value.item():.4f}, largest weight {largest.item():.6f}")
torch.distributed.destroy_process_group()
