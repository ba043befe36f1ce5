"""What is kept of a written shard, so that the set is completed without reading it again."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from napari_patchset.model import Frozen
from napari_patchset.patchset.shards import checksums
from napari_patchset.patchset.statistics import ChannelSums, channel_sums


class ShardSidecar(Frozen):
    """The checksums and sums of a written shard.

    Attributes
    ----------
    stamp : str
        Which candidates lie in it; see `PlannedArray.stamp`.
    packed_checksums : bytes
        The crc32c of each patch, 32-bit little-endian.
    sums : tuple of ChannelSums
        Of each channel.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    stamp: str
    packed_checksums: bytes
    sums: tuple[ChannelSums, ...]

    @classmethod
    def of(cls, stamp: str, patches: NDArray[Any]) -> Self:
        """Sum up the patches of a shard."""
        packed = checksums(patches).astype("<u4").tobytes()
        return cls(stamp=stamp, packed_checksums=packed, sums=tuple(channel_sums(patches)))

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """The crc32c of each patch."""
        return np.frombuffer(self.packed_checksums, "<u4").astype(np.uint32)
