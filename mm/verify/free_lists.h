/* SPDX-License-Identifier: GPL-2.0 */
/* Between the free_lists verifier and its injections. */
#ifndef _MM_VERIFY_FREE_LISTS_H
#define _MM_VERIFY_FREE_LISTS_H

#include <linux/mmzone.h>

#include "verify.h"

enum free_lists_finding {
	FL_TYPE,		/* list's type is not the type of the page's block */
	FL_STRADDLE,		/* buddy of several blocks, a later one differs */
	FL_ORDER,		/* page's order is not the order of the list */
	FL_ALIGN,		/* first pfn is not a multiple of the size */
	FL_BUDDY,		/* on a free list without PageBuddy */
	FL_ZONE,		/* on a free list of another zone */
	FL_LINKS,		/* list pointers do not lead back */
	FL_OVERLAP,		/* PageBuddy inside another free buddy */
	FL_NR_FREE,		/* free_area.nr_free is not the lists' length */
	FL_NR_FREE_PAGES,	/* NR_FREE_PAGES is not the pages on the lists */
	FL_NR_FREE_CMA,		/* NR_FREE_CMA_PAGES likewise */
	FL_ISOLATED,		/* zone's count of isolated blocks is not theirs */
	FL_NR_FINDINGS,
};

/**
 * struct fl_plant - what an injection changed, to be undone
 * @list: where the page goes back to
 * @page: the page; NULL when nothing was planted
 * @block: first page of the retyped block
 * @value: the value to restore
 */
struct fl_plant {
	struct list_head *list;
	struct page *page;
	struct page *block;
	unsigned long value;
};

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
void fl_plant_walk(struct mm_verify_run *run, struct zone *zone,
		   struct fl_plant *plant);
void fl_undo_walk(struct mm_verify_run *run, struct zone *zone,
		  struct fl_plant *plant);
void fl_plant_scan(struct mm_verify_run *run, struct page *page,
		   unsigned int order, struct fl_plant *plant);
void fl_undo_scan(struct mm_verify_run *run, struct fl_plant *plant);
#else
static inline void fl_plant_walk(struct mm_verify_run *run, struct zone *zone,
				 struct fl_plant *plant)
{
}

static inline void fl_undo_walk(struct mm_verify_run *run, struct zone *zone,
				struct fl_plant *plant)
{
}

static inline void fl_plant_scan(struct mm_verify_run *run, struct page *page,
				 unsigned int order, struct fl_plant *plant)
{
}

static inline void fl_undo_scan(struct mm_verify_run *run,
				struct fl_plant *plant)
{
}
#endif

#endif /* _MM_VERIFY_FREE_LISTS_H */
