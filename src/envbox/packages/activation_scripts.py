"""How activate.sh sources the activate.d scripts of packages, which others wrote for shells of their own.

What they export is for the command; whatever else they do to a shell is theirs alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_CHANGES = "changes the shell's options, arguments or directory"


def run_scripts(scripts: Sequence[str]) -> str:
    """Give the lines that source each script in a copy of the shell, and take over what it exports.

    So it may do as it likes (`exit`, `exec`, `set --`, `cd`, traps, functions that shadow a command): the
    copy has it, and neither the caller's shell nor the command. The assignment turns bash's POSIX mode on, in
    which no function is taken for `set`, `trap`, `unset` and `export`. Number 9 is where the exports go; the
    script does not get it, since what it leaves in the background would keep it open.
    """
    if not scripts:
        return ""
    listed = " \\\n    ".join(shlex.quote(script) for script in scripts)
    return f"""\
  _envbox_posix=${{POSIXLY_CORRECT+x}}
  for _envbox_script in {listed}; do
    [ -r "$_envbox_script" ] || continue
    _envbox_set=$(
      exec 9>&1 >&2
      _envbox_ifs=${{IFS- }} _envbox_was="$-|$PWD|$#|$*"
      . "$_envbox_script" 9>&- </dev/null || :
      {{
        IFS=$_envbox_ifs _envbox_is="$-|$PWD|$#|$*" POSIXLY_CORRECT=1
        set +aeuxv
        trap - EXIT
      }} 2>/dev/null
      case $_envbox_is in
        "$_envbox_was") ;;
        *) echo "envbox: $_envbox_script {_CHANGES}: left out" ;;
      esac
      unset PWD OLDPWD _envbox_ifs _envbox_was _envbox_is _envbox_options _envbox_script
      export -p >&9
    ) || _envbox_set=
    if [ -n "$_envbox_set" ]; then
      eval "$_envbox_set"
      [ -n "$_envbox_posix" ] || unset POSIXLY_CORRECT
    else
      echo "envbox: $_envbox_script ends the shell: what it sets is left out" >&2
    fi
  done
  unset _envbox_script _envbox_set _envbox_posix
"""
