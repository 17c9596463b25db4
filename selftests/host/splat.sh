# Headlines of kernel reports, for grep -E; to be sourced. Fault injection and sysrq print stack traces too: a trace
# alone is no report.
splat='BUG:|(^|\] )BUG |kernel BUG at|Oops:|WARNING: |KASAN:|UBSAN:|Kernel panic|general protection fault|double fault'
splat+='|possible circular locking|possible recursive locking|inconsistent lock state|suspicious RCU usage|lock held when returning'
splat+='|blocked for more than|rcu.*detected stall|self-detected stall|soft lockup|hard LOCKUP|sleeping function called|scheduling while atomic'
splat+='|refcount_t:|list_add corruption|list_del corruption|page_table_check|Bad page (state|map)|bad: scheduling|ODEBUG:'
splat+='|Objects remaining in|still has [0-9]+ (objects|references)|unregister_netdevice: waiting|Unable to handle'
