"""Lines of ours among lines of users, in bash: each run as if the others were not there.

Start files and the lines of users may set any option (`set -eu`, `pipefail`, `noclobber`), trap, alias, IFS or PATH. Our own
lines run in a mode of their own and give all of it back before the next line of a user.

`$pf_ours` is evaluated before lines of our own, `$pf_theirs` before lines of users. These are texts and not functions because
traps on ERR and DEBUG would come back when a function returns. What would act while the rest is kept (e, E, T, u) is kept in
`$-`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .shell import Text, lines, sh, users, word

_SHOPTS = "extdebug failglob nocaseglob nocasematch nullglob xpg_echo"
MODES = Text(
    rf"""
pf_blanks=$' \t\n' pf_mine=
pf_ours='
\shopt -q expand_aliases && pf_alias=-s || pf_alias=-u
\shopt -u expand_aliases
if [ -z "${{pf_mine-}}" ]; then
  pf_flags=$- pf_ifs=${{IFS-$pf_blanks}} pf_path=${{PATH-}} pf_aliases=$pf_alias
  set +eETu
  pf_options=$(trap -p ERR DEBUG RETURN; set +o; shopt -p {_SHOPTS} || :)
  pf_mine=1
fi
set +aeEuCfmT +o pipefail +o posix
trap - ERR DEBUG RETURN
shopt -u {_SHOPTS}
IFS=$pf_blanks PATH=$pf_path:/usr/bin:/bin
'
pf_theirs='
pf_mine=
shopt $pf_aliases expand_aliases
eval "$pf_options"
IFS=$pf_ifs PATH=$pf_path
case $pf_flags in *T*) set -T ;; esac
case $pf_flags in *E*) set -E ;; esac
case $pf_flags in *u*) set -u ;; esac
case $pf_flags in *e*) set -e ;; esac
'
"""
)
"""Defines both."""
OURS = Text('\\eval "$pf_ours"')
THEIRS = Text('eval "$pf_theirs"; true')


def in_login_shell(ours: Text, begun: str, before: Iterable[str] = ()) -> Text:
    """Run our lines in a shell as a job's script has it: `bash -l` reads the profile, where `module` comes from.

    `before` are lines of a user, which come first. What it prints is the line `begun`, then what our lines print; what the
    profile and the user's lines print is lost. What these have set for the end of the shell is done after our lines.
    """
    run = sh("(\nexec >&3 3>&-\nprintf '%s\\n' {begun}\n{ours}\n)\nexit $?", begun=word(begun), ours=ours)
    inside = lines([MODES, *(users(line) for line in before), OURS, run])
    return sh("exec bash -lc {inside} 3>&1 >/dev/null </dev/null", inside=word(inside))
