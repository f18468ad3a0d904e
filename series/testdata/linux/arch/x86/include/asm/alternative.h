#define LOCK_PREFIX_HERE \
		".pushsection .smp_locks,\"a\"\n"	\
		".popsection\n"				\
		"671:"
