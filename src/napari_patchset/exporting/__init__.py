"""From a plan to a patch set on disk.

A plan (`plan`) is checked (`destination`, `sources`), frozen in the folder NAME.partial
(`frozen_plan`, `workdir`), and carried out by jobs (`jobs`) on any executor (`run`); `finalize`
completes the set. Every step can be repeated, and resumes where it stopped. `command_line` reads
and writes a plan as options of the command (`plan_options`).

How a pixel gets from a file to a shard:

1. `shard_writer`: a job takes the shards that are missing, and orders their candidates by the
   tiles of the sources that hold them (`tiles`).
2. `tile_reader`: the tiles of a batch are decoded ahead of its turn, each once, by the source's
   stack (`open_images`, `napari_patchset.stacks`), and stay in memory as long as later batches need
   them (`tiles`). The pixels are pasted into the patches of the batch.
3. `shard_writer`: the patches are rows of a shard's buffer. A full buffer is written by the format
   of the set (`napari_patchset.patchset.writers`), and marked as done with its checksums and sums.

Filters read pixels in the same way: `metrics` measures the batches instead of writing them.
"""
