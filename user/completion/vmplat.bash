# SPDX-License-Identifier: GPL-2.0-only
# Completion for vmplat: the words come from the command's own help, so that they cannot be out of date.

_vmplat_words() {
	"$1" "${@:2}" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
}

_vmplat_options() {
	"$1" "${@:2}" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u
}

# PCI addresses, for what takes a device
_vmplat_functions() {
	local f
	for f in /sys/bus/pci/devices/*; do [ -e "$f" ] && printf '%s\n' "${f##*/}"; done
}

# For readline a word begins anew behind each colon: only what is behind the last is replaced.
_vmplat_reply() {
	local cur=${COMP_LINE:0:COMP_POINT}
	cur=${cur##* }
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
	[[ $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
}

_vmplat() {
	local cmd=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} path=() word words depth=2 f
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in -*) break ;; esac
		[ "$word" = help ] && continue
		path+=("$word")
	done
	COMPREPLY=()
	case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD - 1]}" in
	"run --device")
		_vmplat_reply "$(_vmplat_functions)"
		return
		;;
	"host -c" | "host --check")
		words=$("$cmd" host --help 2>/dev/null | sed -n 's/^ \{10,\}\([a-z]*\)  .*/\1/p')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	esac
	case $cur in
	-*)
		[ "${path[*]:0:2}" = "vm device" ] && depth=3
		mapfile -t COMPREPLY < <(compgen -W "$(_vmplat_options "$cmd" "${path[@]:0:depth}")" -- "$cur")
		return
		;;
	esac
	if [ ${#path[@]} -lt 2 ] || [ "${path[*]}" = "vm device" ]; then
		words=$(_vmplat_words "$cmd" "${path[@]}")
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		[ ${#COMPREPLY[@]} -gt 0 ] && return
	fi
	case ${path[*]:0:2} in
	"sriov show" | "sriov set" | "sriov destroy")
		# PFs; behind that of "set" come keys
		words=$(for f in /sys/bus/pci/devices/*/sriov_totalvfs; do [ -e "$f" ] && basename "${f%/*}"; done)
		[ "${path[1]}" = set ] && [ ${#path[@]} -gt 2 ] &&
			words="mac= vlan= qos= proto= min_rate= max_rate= spoofchk= trust= link= msix= driver="
		_vmplat_reply "$words"
		return
		;;
	"vm device")
		# the VM is the fourth word, then comes what
		[ "${path[2]}" = add ] && [ ${#path[@]} = 4 ] && words="blk net memory pci" &&
			mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") && return
		;;
	"vm show" | "vm cpus" | "vm pause" | "vm resume" | "vm reset" | "vm stop" | "vm snapshot" | "vm start" | "vm forget")
		words=$("$cmd" vm list 2>/dev/null | sed -n '2,$s/^\([[:alnum:]._-]*\)  *[a-z].*/\1/p')
		[ ${#path[@]} -lt 3 ] && _vmplat_reply "$words"
		return
		;;
	"pci show" | "gpu show" | "claim add" | "claim release")
		_vmplat_reply "$(_vmplat_functions)"
		return
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

complete -o filenames -F _vmplat vmplat
