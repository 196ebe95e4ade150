"""Train the weights that ship with the package: the demo's network on its source task.

`python -m atcon.experiments.digits_source OUT.safetensors` made `models/digits_source.safetensors`.
The source task (other digits, other handwriting) plays the role of ImageNet.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric

from atcon import records
from atcon.data import AUGMENTATIONS, Reader, digits_source, load
from atcon.evaluation import mean_average_precision, point
from atcon.experiments.bench import inputs_of, probabilities_of
from atcon.models import build, save_weights
from atcon.training import Batch, SupervisedLoss, generator_of

EPOCHS, BATCH_SIZE, LEARNING_RATE, SEED = 12, 32, 2e-3, 0


def train_source(out: Path, *, epochs: int = EPOCHS, scenes: int = 4000) -> float:
    """Train from scratch, write the weights in half precision, and give the validation mAP."""
    source = digits_source(pool=scenes)
    network = build("digits_resnet", classes=len(source.classes), seed=SEED)
    reader = Reader(source, network.input_size)
    train = load(reader, source.pool)
    loss = SupervisedLoss(network.module, multi_label=True, batch_norm="batch")
    optimizer = torch.optim.AdamW(network.module.parameters(), lr=LEARNING_RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs=epochs, steps_per_epoch=-(-scenes // BATCH_SIZE)
    )

    def batches(epoch: int) -> Iterator[Batch]:
        generator = generator_of(SEED, "source", epoch)
        for chunk in torch.split(torch.randperm(scenes, generator=generator), BATCH_SIZE):
            pixels = AUGMENTATIONS["rotation"](train.pixels[chunk], generator)
            images = inputs_of(pixels, network, torch.device("cpu"))
            yield Batch(images, train.labels[chunk], ())

    for epoch in range(epochs):
        for batch in batches(epoch):
            optimizer.zero_grad()
            loss(batch.images, batch.labels).backward()
            optimizer.step()
            rates.step()
    with records.whole_file(out) as part:
        save_weights(network.module.half(), part)
    network.module.float()
    validation = load(reader, source.validation or ())
    scores = probabilities_of(
        network, validation.pixels, multi_label=True, fabric=Fabric(accelerator="cpu")
    )
    labels = validation.labels.numpy().astype(bool)
    return float(point(mean_average_precision(labels, scores), len(labels)))


if __name__ == "__main__":
    reached = train_source(Path(sys.argv[1]))
    sys.stdout.write(f"source task: validation mAP {100 * reached:.1f}\n")
