// nextflow run workflows/nextflow --images '/data/*.czi' --out /data/cells.patches.zarr
//     --options '--patch-size 64,64 --filter "std>p10" --val 0.1'

include { PATCHSET } from './patchset/main'

params.images = null
params.out = null
params.jobs = 16
params.options = ''

workflow {
    if (!params.images || !params.out) {
        error('Set --images, a pattern, and --out, the patch set to write.')
    }
    images = channel.fromPath(params.images, type: 'any', checkIfExists: true) // a Zarr is a folder
        .collect()
        .map { files -> [[id: file(params.out).name], files, file(params.out).toString()] }
    PATCHSET(images, params.jobs as int)
}
