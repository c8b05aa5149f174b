"""What a run trains on: from the config's `data:` section to batches on the device."""
