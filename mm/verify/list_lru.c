// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of list_lrus: the lists that the shrinkers of dentries, inodes,
 * shadow nodes and others work on, one a node and memcg.
 *
 * nlru->lock pins a node's lists and their counts. The node's own count lags
 * behind them by what walkers are taking off just then, so a difference has to
 * stand. Which memcg an item belongs to changes in list_lru_for_each()'s absence
 * only.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>

#include "../slab.h"
#include "list_lru.h"

/* A difference of a node's count has to stand for so many walks. */
#define LL_WALKS	5

static const char * const list_lru_findings[LL_NR_FINDINGS] = {
	[LL_NR_ITEMS]		= "nr_items",
	[LL_NODE_ITEMS]		= "node_items",
	[LL_OWNER]		= "owner",
	[LL_LINKS]		= "links",
};

enum list_lru_figure {
	LL_LRUS,		/* list_lrus */
	LL_LISTS,		/* lists in them */
	LL_MEMCG_ITEMS,		/* items on lists of memcgs but the root */
	LL_UNCOUNTED,		/* lists too long for one hold */
	LL_NR_FIGURES,
};

static const char * const list_lru_figures[LL_NR_FIGURES] = {
	[LL_LRUS]		= "lrus",
	[LL_LISTS]		= "lists",
	[LL_MEMCG_ITEMS]	= "memcg_items",
	[LL_UNCOUNTED]		= "uncounted_lists",
};

/**
 * struct ll_walk - one hold of one node's lock
 * @run: where findings go
 * @lru: the list_lru
 * @nid: the node
 * @left: how many items may still be visited
 * @quiet: a walk repeated for the node's count
 * @whole: no list was cut
 * @items: items on all lists of the node
 */
struct ll_walk {
	struct mm_verify_run *run;
	struct list_lru *lru;
	int nid;
	unsigned long left;
	bool quiet;
	bool whole;
	long items;
};

/* The index under which a memcg has its list; -1 is the root's. */
static int ll_owner(struct ll_walk *w, struct list_head *item)
{
	struct mem_cgroup *memcg;
	int idx;

	if (!w->lru->memcg_aware)
		return -1;
	rcu_read_lock();
	memcg = mem_cgroup_from_slab_obj(item);
	idx = memcg ? memcg_kmem_id(memcg) : -1;
	rcu_read_unlock();
	return idx;
}

static void ll_item_found(struct ll_walk *w, unsigned int finding,
			  struct list_head *item, int idx, int owner)
{
	mm_verify_found(w->run, finding, item,
			"list_lru %px node %d memcg index %d: item %px of node %d memcg index %d\n"
			"next:%px prev:%px", w->lru, w->nid, idx, item,
			page_to_nid(virt_to_page(item)), owner, item->next,
			item->prev);
}

static void ll_walk_list(struct ll_walk *w, struct list_lru_one *l, int idx)
{
	struct list_head *pos;
	long items = 0;
	int owner;

	list_for_each(pos, &l->list) {
		if (!w->left) {
			w->whole = false;
			if (!w->quiet)
				w->run->figures[LL_UNCOUNTED]++;
			return;
		}
		w->left--;
		items++;
		if (!mm_verify_linked(pos)) {
			w->whole = false;
			if (!w->quiet)
				ll_item_found(w, LL_LINKS, pos, idx, idx);
			return;
		}
		if (w->quiet)
			continue;
		owner = ll_owner(w, pos);
		if (owner != idx || page_to_nid(virt_to_page(pos)) != w->nid)
			ll_item_found(w, LL_OWNER, pos, idx, owner);
	}
	w->items += items;
	if (w->quiet)
		return;

	w->run->checked += items;
	w->run->figures[LL_LISTS]++;
	if (idx >= 0)
		w->run->figures[LL_MEMCG_ITEMS] += items;
	if (l->nr_items != items)
		mm_verify_found(w->run, LL_NR_ITEMS, l,
				"list_lru %px node %d memcg index %d: nr_items %ld, items on the list %ld",
				w->lru, w->nid, idx, l->nr_items, items);
}

/* All lists of a node in one hold; returns its count less the items. */
static long ll_walk_node(struct ll_walk *w)
{
	struct list_lru_node *nlru = &w->lru->node[w->nid];
	struct list_lru_plant plant = {};
	long diff;

	w->left = READ_ONCE(mm_verify_max_hold);
	w->whole = true;
	w->items = 0;

	/* Some are taken with interrupts off, or inside of locks that are. */
	spin_lock_irq(&nlru->lock);
	list_lru_plant(w->run, w->lru, w->nid, &plant);
	ll_walk_list(w, &nlru->lru, -1);
	if (w->lru->memcg_aware) {
		struct list_lru_memcg *mlru;
		unsigned long idx;

		xa_for_each(&w->lru->xa, idx, mlru)
			ll_walk_list(w, &mlru->node[w->nid], idx);
	}
	diff = w->whole ? nlru->nr_items - w->items : 0;
	list_lru_undo(w->run, &plant);
	spin_unlock_irq(&nlru->lock);
	return diff;
}

static int ll_verify_node(struct mm_verify_run *run, struct list_lru *lru,
			  int nid)
{
	struct ll_walk w = { .run = run, .lru = lru, .nid = nid };
	long diff, least = LONG_MAX;
	int i, ret;

	for (i = 0; i < LL_WALKS && least; i++) {
		diff = ll_walk_node(&w);
		if (i && (diff ^ least) < 0)
			diff = 0;
		if (abs(diff) < abs(least))
			least = diff;
		w.quiet = true;

		ret = mm_verify_pause(run);
		if (ret)
			return ret;
		if (least && i + 1 < LL_WALKS)
			msleep(20 << i);
	}
	if (least)
		mm_verify_found(run, LL_NODE_ITEMS, &lru->node[nid],
				"list_lru %px node %d: nr_items less the items on its lists: %ld",
				lru, nid, least);
	return 0;
}

static int ll_verify_one(struct list_lru *lru, void *arg)
{
	struct mm_verify_run *run = arg;
	int nid, ret;

	run->figures[LL_LRUS]++;
	for_each_node(nid) {
		ret = ll_verify_node(run, lru, nid);
		if (ret)
			return ret;
	}
	return 0;
}

static int list_lru_verify(struct mm_verify_run *run)
{
	return list_lru_for_each(ll_verify_one, run);
}

static struct mm_verifier list_lru_verifier = {
	.name		= "list_lru",
	.findings	= list_lru_findings,
	.nr_findings	= LL_NR_FINDINGS,
	.figures	= list_lru_figures,
	.nr_figures	= LL_NR_FIGURES,
	.verify		= list_lru_verify,
};

static int __init list_lru_init_verifier(void)
{
	return mm_verify_register(&list_lru_verifier);
}
late_initcall(list_lru_init_verifier);
