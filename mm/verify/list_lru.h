/* SPDX-License-Identifier: GPL-2.0 */
/* Between list_lrus, their verifier and its injections. */
#ifndef _MM_VERIFY_LIST_LRU_H
#define _MM_VERIFY_LIST_LRU_H

#include <linux/list_lru.h>

#include "verify.h"

enum list_lru_finding {
	LL_NR_ITEMS,		/* a list's count is not its length */
	LL_NODE_ITEMS,		/* the node's count is not that of its lists */
	LL_OWNER,		/* item of another node or memcg */
	LL_LINKS,		/* list pointers do not lead back */
	LL_NR_FINDINGS,
};

/**
 * struct list_lru_plant - what an injection changed
 * @item: the item; NULL when none was spoilt
 * @pos: the entry before it, or behind it
 * @from: the list that it was taken from
 * @one: the list whose count was spoilt
 * @nlru: the node whose count was spoilt
 */
struct list_lru_plant {
	struct list_head *item;
	struct list_head *pos;
	struct list_lru_one *from;
	struct list_lru_one *one;
	struct list_lru_node *nlru;
};

/* Call @fn for each; none comes or goes, or is reparented, meanwhile. */
int list_lru_for_each(int (*fn)(struct list_lru *lru, void *arg), void *arg);

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
void list_lru_plant(struct mm_verify_run *run, struct list_lru *lru, int nid,
		    struct list_lru_plant *plant);
void list_lru_undo(struct mm_verify_run *run, struct list_lru_plant *plant);
#else
static inline void list_lru_plant(struct mm_verify_run *run,
				  struct list_lru *lru, int nid,
				  struct list_lru_plant *plant)
{
}

static inline void list_lru_undo(struct mm_verify_run *run,
				 struct list_lru_plant *plant)
{
}
#endif

#endif /* _MM_VERIFY_LIST_LRU_H */
