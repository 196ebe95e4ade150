"""Hugging Face Trainer: a model whose own loss is supervised plus consistency.

The loss is computed in `forward`, not in `Trainer.compute_loss`: Trainer wraps the model for
several devices, and gradients are averaged only for what runs inside the wrapper's forward pass.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from atcon import ConsistencyLoss


class WithConsistency(nn.Module):
    """An image classifier of Hugging Face that adds the consistency loss to its own.

    Args:
        net: Takes `pixel_values`, gives `.logits`.
        weight: Of the consistency loss.
        choices: Of `ConsistencyLoss`.
    """

    def __init__(self, net: nn.Module, weight: float = 0.2, **choices) -> None:
        super().__init__()
        self.net, self.weight = net, weight
        self.consistency = ConsistencyLoss(net, **choices)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor):
        logits = self.net(pixel_values).logits
        loss = cross_entropy(logits, labels)
        if self.training:
            loss = loss + self.weight * self.consistency(pixel_values)
        return {"loss": loss, "logits": logits}


class RandomImages(Dataset):
    """Images of noise."""

    def __init__(self, count: int) -> None:
        self.images, self.labels = torch.randn(count, 3, 32, 32), torch.randint(5, (count,))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def tiny_resnet() -> WithConsistency:
    """A ResNet without pretrained weights."""
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    return WithConsistency(ResNetForImageClassification(config))


def tiny_vit() -> WithConsistency:
    """A vision transformer without pretrained weights; its maps are those of its last block."""
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    return WithConsistency(ViTForImageClassification(config))


def main(folder: str, build=tiny_resnet, steps: int = 3) -> tuple[nn.Module, dict[str, float]]:
    """Train on random images; give the model and what Trainer measured on others."""
    torch.manual_seed(0)
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        build(), arguments, train_dataset=RandomImages(4 * steps), eval_dataset=RandomImages(4)
    )
    trainer.train()
    return trainer.model, trainer.evaluate()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        print(main(place)[1])
