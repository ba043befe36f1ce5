// Export a patch set in jobs: plan, score, write, finalize; see docs/cluster.md.
//
// The set is written in place, by its path on a file system that all jobs share, not in their work
// folders: the jobs write into one folder, NAME.partial.

process PATCHSET_PLAN {
    tag "$meta.id"
    label 'process_single'

    container 'ghcr.io/napari-patchset/patchset:0.2.0'

    input:
    tuple val(meta), path(images, stageAs: 'images/?/*'), val(out)

    output:
    tuple val(meta), val(out), env('SCORE_JOBS'), env('JOBS'), emit: planned
    path 'versions.yml'                                      , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    """
    find -L images -maxdepth 2 -mindepth 2 -exec realpath {} \\; | sort > images.txt
    patchset plan --files-from images.txt --out '${out}' ${args} --json > plan.json
    SCORE_JOBS=\$(sed -n 's/.*"event": "summary".*"score_jobs": \\([0-9]*\\).*/\\1/p' plan.json)
    JOBS=\$(sed -n 's/.*"event": "summary".*"jobs": \\([0-9]*\\).*/\\1/p' plan.json)

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        patchset: \$(patchset --version)
    END_VERSIONS
    """

    stub:
    """
    SCORE_JOBS=3
    JOBS=2

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        patchset: \$(patchset --version)
    END_VERSIONS
    """
}

process PATCHSET_SCORE {
    tag "$meta.id $job/$of"
    label 'process_low'

    container 'ghcr.io/napari-patchset/patchset:0.2.0'

    input:
    tuple val(meta), val(out), val(job), val(of), val(writers)

    output:
    tuple val(meta), val(out), val(of), val(writers), emit: scored

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    """
    patchset score '${out}' --job ${job} --of ${of} --workers ${task.cpus} ${args}
    """

    stub:
    """
    echo patchset score '${out}' --job ${job} --of ${of} ${task.ext.args ?: ''}
    """
}

process PATCHSET_WRITE {
    tag "$meta.id $job/$of"
    label 'process_low'

    container 'ghcr.io/napari-patchset/patchset:0.2.0'

    input:
    tuple val(meta), val(out), val(job), val(of)

    output:
    tuple val(meta), val(out), val(of), emit: written

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    """
    patchset write '${out}' --job ${job} --of ${of} --workers ${task.cpus} ${args}
    """

    stub:
    """
    echo patchset write '${out}' --job ${job} --of ${of} ${task.ext.args ?: ''}
    """
}

process PATCHSET_FINALIZE {
    tag "$meta.id"
    label 'process_single'

    container 'ghcr.io/napari-patchset/patchset:0.2.0'

    input:
    tuple val(meta), val(out)

    output:
    tuple val(meta), val(out), emit: patches

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    """
    patchset finalize '${out}' ${args}
    """

    stub:
    """
    echo patchset finalize '${out}' ${task.ext.args ?: ''}
    """
}

// Make a patch set of images.
workflow PATCHSET {
    take:
    images // channel: [ val(meta), [ path(image), ... ], val(out) ]; out is an absolute path
    jobs   // integer: the most jobs of an export

    main:
    PATCHSET_PLAN(images)
    PATCHSET_SCORE(
        PATCHSET_PLAN.out.planned.flatMap { meta, out, to_score, to_write ->
            def of = Math.max(1, Math.min(jobs, to_score as int)) // one without filters, to go on
            def writers = Math.min(jobs, to_write as int)
            (0..<of).collect { job -> [meta, out, job, of, writers] }
        }
    )
    PATCHSET_WRITE(
        PATCHSET_SCORE.out.scored
            .map { meta, out, of, writers -> [groupKey([meta, out, writers], of), of] }
            .groupTuple()
            .flatMap { key, _ofs ->
                def (meta, out, writers) = key.getGroupTarget()
                (0..<writers).collect { job -> [meta, out, job, writers] }
            }
    )
    PATCHSET_FINALIZE(
        PATCHSET_WRITE.out.written
            .map { meta, out, of -> [groupKey([meta, out, of], of), of] }
            .groupTuple()
            .map { key, _ofs -> [key.getGroupTarget()[0], key.getGroupTarget()[1]] }
    )

    emit:
    patches  = PATCHSET_FINALIZE.out.patches // channel: [ val(meta), val(out) ]
    versions = PATCHSET_PLAN.out.versions    // channel: [ versions.yml ]
}
