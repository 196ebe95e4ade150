"""Lightning: supervised and consistency loss in one training step, on any number of devices.

With several devices use `strategy="ddp"`, as always: Lightning runs `training_step` inside the
forward pass of its wrapper, where the loss belongs. If the step had the consistency loss alone, it
would be `strategy="ddp_find_unused_parameters_true"`, since the last bias gets no gradient then.
"""

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from atcon import ConsistencyLoss


class Classifier(lightning.LightningModule):
    """A classifier that learns from labels and from the agreement of its attention maps.

    Args:
        weight: Of the consistency loss, alpha in L_s + alpha L_A.
    """

    def __init__(self, weight: float = 0.2) -> None:
        super().__init__()
        self.net = resnet18(num_classes=5)
        self.consistency = ConsistencyLoss(self.net)
        self.weight = weight

    def training_step(self, batch, _index):
        images, labels = batch
        supervised = cross_entropy(self.net(images), labels)
        consistency = self.consistency(images)
        self.log_dict({"supervised": supervised, "consistency": consistency})
        return supervised + self.weight * consistency

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=1e-4)


def main(steps: int = 3, **options) -> Classifier:
    """Train on random images."""
    torch.manual_seed(0)
    images, labels = torch.randn(4 * steps, 3, 64, 64), torch.randint(5, (4 * steps,))
    model = Classifier()
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", logger=False, **options)
    trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=4))
    return model


if __name__ == "__main__":
    trained = main(enable_checkpointing=False)
    print({name: float(value) for name, value in trained.trainer.callback_metrics.items()})
