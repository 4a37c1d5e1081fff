"""What this machine and this installation can do: ``python -m a2mim.doctor``.

Every check returns findings; nothing here is imported before its own check, so that a broken
package is a finding and not a traceback.
"""
