"""From a plan to a patch set on disk.

A plan (`plans.plan`) names its sources (`plans.image_refs`), which are found in files
(`plans.source_files`) and a samples sheet (`plans.samples`). As a command line it is read and
written by `plans.command_line`, option by option (`plans.options`).

`run` exports in one go, `stages` job by job; every step can be repeated, and resumes where it
stopped. The plan is checked (`writing.destination`, `reading.sources`), the strategy chooses
candidates (`reading.candidates`), and both are frozen (`writing.frozen_plan`) in the folder
NAME.partial (`writing.workdir`). Candidates are measured (`writing.metrics`) and selected
(`writing.selection`), their shards written (`writing.shard_writer`), and the set is completed
(`writing.finalize`). `estimate` and `status` tell how large and how far that is,
`reading.failures` what happens to sources that can't be read, `reading.open_images` which files
have changed since.

How a pixel gets from a file to a shard:

1. `writing.shard_writer`: a job takes the shards that are missing, and orders their candidates by
   the tiles of the sources that hold them (`reading.tiles`).
2. `reading.tile_reader`: the tiles of a batch are decoded ahead of its turn, each once, by the
   source's stack (`reading.open_images`, `napari_patchset.stacks`), and stay in memory as long as
   later batches need them (`reading.tiles`). The pixels are pasted into the patches of the batch.
3. `writing.shard_writer`: the patches are rows of a shard's buffer. A full buffer is written by the
   format of the set (`napari_patchset.patchset.writers`), and marked as done with its checksums and
   sums.

Filters read pixels in the same way: `writing.metrics` measures the batches instead of writing them.
"""
