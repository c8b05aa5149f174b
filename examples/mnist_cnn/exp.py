"""The CNN of the classic MNIST example, with Adadelta and a rate that falls after each epoch."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, width, 3), nn.Conv2d(width, 2 * width, 3)
        self.fc1, self.fc2 = nn.Linear(2 * width * 12 * 12, 4 * width), nn.Linear(4 * width, 10)
        self.drop1, self.drop2 = nn.Dropout(dropout / 2), nn.Dropout(dropout)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = self.drop1(torch.max_pool2d(x, 2)).flatten(1)
        return self.fc2(self.drop2(torch.relu(self.fc1(x))))


def model(width=32, dropout=0.5):
    return Net(width, dropout)
