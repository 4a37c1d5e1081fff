"""The hooks of every run: steps that repeat exactly, and what a run survives.

Whatever starts a run adds those that its config lacks; ``default_hooks = dict(KEY=None)`` switches
one off. The names have their scope, so that a detector or segmentor finds them too.
"""

default_hooks = dict(
    # A run resumed at any iteration is the one that was never stopped.
    loops=dict(type='a2mim.ResumableLoopHook'),
    step_seed=dict(type='a2mim.StepSeedHook'),
    run_record=dict(type='a2mim.RunRecordHook'),
    rank_buffers=dict(type='a2mim.RankBuffersHook'),
    # Checkpoints of other systems are read; updates that are not finite and images that cannot be
    # read are replaced or skipped, and counted; signals save and stop.
    fit_weights=dict(type='a2mim.FitWeightsHook'),
    guard=dict(type='a2mim.FiniteGuardHook'),
    bad_images=dict(type='a2mim.BadImagesHook'),
    stop_signal=dict(type='a2mim.StopSignalHook'),
)
