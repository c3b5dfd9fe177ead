/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Delay points: places in mm/ where a test can make the window of a race wide.
 * See Documentation/mm/verify.rst.
 */
#ifndef _MM_VERIFY_DELAY_H
#define _MM_VERIFY_DELAY_H

#include <linux/jump_label.h>

enum mm_delay_point {
	MM_DELAY_RMAP_STAT,	/* a mapcount has changed, its statistics have not */
	/* A page-table entry is gone, the TLB has it: */
	MM_DELAY_ZAP_PTE,	/* before the flush that dirty file ptes ask for */
	MM_DELAY_ZAP_PMD,	/* before zap_huge_pmd() drops its lock or flushes */
	MM_DELAY_RECLAIM,	/* before reclaim's batched flush */
	MM_DELAY_COLLAPSE,	/* a small page is copied, and mapped by a table nobody finds */
	MM_DELAY_SWAP_ADD,	/* an anon folio is to be swapped out, and is not in swap cache */
	MM_DELAY_REPARENT,	/* a cgroup's objects are its parent's, its list_lrus not */
	MM_DELAY_NR,
};

struct dentry;

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
DECLARE_STATIC_KEY_FALSE(mm_delay_set);

void __mm_delay(enum mm_delay_point point);
void mm_delay_init(struct dentry *dir);

/**
 * mm_delay - wait here for as long as a test has asked for
 * @point: where this is
 *
 * Busy waiting, so that it can stand under spinlocks.
 */
static inline void mm_delay(enum mm_delay_point point)
{
	if (static_branch_unlikely(&mm_delay_set))
		__mm_delay(point);
}
#else
static inline void mm_delay(enum mm_delay_point point)
{
}

static inline void mm_delay_init(struct dentry *dir)
{
}
#endif

#endif /* _MM_VERIFY_DELAY_H */
