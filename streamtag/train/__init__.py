"""Training: from a recipe and data to a bundle. Only `cli/train` and other commands enter it.

    recipes/       what a recipe says, and its TOML files
    data/          corpora, feature cache, augmentation, batches
    synthesis/     windows mixed from notes, stems and MIDI pieces
    nets/          one file per paper
    evaluation/    metrics, thresholds, scores of arrays, evaluation through the engine
    training/      the training loop, predictions, learning rates, the card of a trained net
    run_folder.py  what a training leaves on disk and resumes from
    export.py      from a module to a bundle
    exporting/     ensembles, and modules with their own front end
    importing/     bundles from published checkpoints
    distillation/  a student's data, labelled by teachers
    sets.py        the data sets of a recipe, whichever way they are made
    resuming.py    whether a run may begin, go on, or be exported
    job.py         one training job: `train` and `export_run`
    dry_run.py     what a training would do
    recipe_table.py  the table of `streamtag recipes`

Each folder imports only from those before it.
"""
