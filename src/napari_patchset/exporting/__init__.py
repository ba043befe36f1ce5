"""From a plan to a patch set on disk.

A plan (`plan`) names its sources (`image_refs`), which are found in files (`source_files`) and a
samples sheet (`samples`); as a command line it is read and written by `command_line`, option by
option (`plan_options`).

`run` exports in one go, `stages` job by job; every step can be repeated, and resumes where it
stopped. The plan is checked (`destination`, `sources`), the strategy chooses candidates
(`candidates`), and both are frozen (`frozen_plan`) in the folder NAME.partial (`workdir`).
Candidates are measured (`metrics`) and selected (`selection`), their shards written
(`shard_writer`), and the set is completed (`finalize`). `estimate` and `status` tell how large and
how far that is, `failures` what happens to sources that can't be read.

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
