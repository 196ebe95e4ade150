"""The consistency loss in a loop of your own: no labels, ten lines."""

import torch
from torchvision.models import resnet18

from atcon import ConsistencyLoss

torch.manual_seed(0)
model = resnet18(num_classes=5)  # yours, trained
loader = [torch.randn(4, 3, 64, 64) for _ in range(3)]  # your normalised images

consistency = ConsistencyLoss(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
for images in loader:
    optimizer.zero_grad()
    loss = consistency(images)
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.4f}, mask contrast {consistency.details.mask_contrast.mean():.4f}")
