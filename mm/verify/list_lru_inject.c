// SPDX-License-Identifier: GPL-2.0
/*
 * Injections of the list_lru verifier. Each is undone in the hold of the node's
 * lock in which it was planted.
 */
#include <linux/list_lru.h>

#include "list_lru.h"

/* Any list of a memcg but the root. */
static struct list_lru_one *list_lru_some_memcg(struct list_lru *lru, int nid)
{
	struct list_lru_memcg *mlru;
	unsigned long idx;

	if (lru->memcg_aware)
		xa_for_each(&lru->xa, idx, mlru)
			return &mlru->node[nid];
	return NULL;
}

/* From the root's list to another, with the counts that belong to it. */
static void list_lru_plant_owner(struct mm_verify_run *run,
				 struct list_lru *lru, int nid,
				 struct list_lru_plant *plant)
{
	struct list_lru_one *root = &lru->node[nid].lru;
	struct list_lru_one *to = list_lru_some_memcg(lru, nid);

	if (!to || list_empty(&root->list))
		return;
	plant->item = root->list.next;
	plant->pos = &root->list;
	plant->from = root;
	plant->one = to;
	list_move(plant->item, &to->list);
	root->nr_items--;
	to->nr_items++;
	run->planted = plant->item;
}

/**
 * list_lru_plant - spoil what the walk over a node's lists has to find
 * @run: the run; planted is set when something was
 * @lru: the list_lru
 * @nid: the node, locked
 * @plant: what list_lru_undo() needs
 */
void list_lru_plant(struct mm_verify_run *run, struct list_lru *lru, int nid,
		    struct list_lru_plant *plant)
{
	struct list_lru_node *nlru = &lru->node[nid];

	/* The node's count is compared more than once. */
	if (run->planted &&
	    (run->inject != LL_NODE_ITEMS || run->planted != nlru))
		return;

	switch (run->inject) {
	case LL_NR_ITEMS:
		plant->one = &nlru->lru;
		plant->one->nr_items++;
		run->planted = plant->one;
		break;
	case LL_NODE_ITEMS:
		plant->nlru = nlru;
		nlru->nr_items++;
		run->planted = nlru;
		break;
	case LL_OWNER:
		list_lru_plant_owner(run, lru, nid, plant);
		break;
	case LL_LINKS:
		if (list_empty(&nlru->lru.list))
			break;
		plant->item = nlru->lru.list.next;
		/* Behind the item: what is before it is right then. */
		plant->pos = plant->item->next;
		plant->pos->prev = plant->pos;
		run->planted = plant->item;
		break;
	}
}

/**
 * list_lru_undo - undo list_lru_plant()
 * @run: the run
 * @plant: what was planted, the node locked since
 */
void list_lru_undo(struct mm_verify_run *run, struct list_lru_plant *plant)
{
	if (plant->nlru)
		plant->nlru->nr_items--;
	if (plant->from) {
		plant->one->nr_items--;
		plant->from->nr_items++;
		list_move(plant->item, plant->pos);
	} else if (plant->one) {
		plant->one->nr_items--;
	} else if (plant->item) {
		plant->pos->prev = plant->item;
	}
}
