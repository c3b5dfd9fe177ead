// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of the queues of huge pages that are to be split: one a memcg, and one
 * a node for those that no memcg has.
 *
 * A queue's lock pins what is on it, and its length but for those that the
 * shrinker has taken aside: the length may be more than what is on the queue for
 * a while, and must never be less.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/init.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mmzone.h>

#include "verify.h"

enum split_queue_finding {
	SQ_LEN,			/* shorter than what is on it */
	SQ_OWNER,		/* page of another node or memcg */
	SQ_LINKS,		/* list pointers do not lead back */
	SQ_NR_FINDINGS,
};

static const char * const split_queue_findings[SQ_NR_FINDINGS] = {
	[SQ_LEN]		= "len",
	[SQ_OWNER]		= "owner",
	[SQ_LINKS]		= "links",
};

enum split_queue_figure {
	SQ_AHEAD,		/* what lengths are more than what is on queues */
	SQ_UNCOUNTED,		/* queues too long for one hold */
	SQ_NR_FIGURES,
};

static const char * const split_queue_figures[SQ_NR_FIGURES] = {
	[SQ_AHEAD]		= "ahead",
	[SQ_UNCOUNTED]		= "uncounted_queues",
};

/**
 * struct sq_walk - one queue
 * @run: where findings go
 * @queue: the queue
 * @memcg: whose it is; NULL: a node's
 * @nid: the node; NUMA_NO_NODE: a memcg's, of all nodes
 * @stolen: what an injection put on it
 * @from: where that came from, locked
 */
struct sq_walk {
	struct mm_verify_run *run;
	struct deferred_split *queue;
	struct mem_cgroup *memcg;
	int nid;
	struct list_head *stolen;
	struct deferred_split *from;
};

static struct mem_cgroup *sq_memcg(struct page *page)
{
#ifdef CONFIG_MEMCG
	return (struct mem_cgroup *)(READ_ONCE(page->memcg_data) &
				     ~MEMCG_DATA_FLAGS_MASK);
#else
	return NULL;
#endif
}

static struct page *sq_page(struct list_head *pos)
{
	return compound_head(list_entry((void *)pos, struct page, deferred_list));
}

static void sq_found(struct sq_walk *w, unsigned int finding,
		     struct list_head *pos)
{
	struct page *page = sq_page(pos);

	mm_verify_found(w->run, finding, pos,
			"queue %px node %d memcg %px: pfn %#lx node %d memcg %px\n"
			"page:%px flags:%pGp refcount:%d next:%px prev:%px",
			w->queue, w->nid, w->memcg, page_to_pfn(page),
			page_to_nid(page), sq_memcg(page), page, &page->flags,
			page_ref_count(page), pos->next, pos->prev);
}

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
/* A page of a memcg's queue goes onto a node's. Nobody takes two locks: try. */
static void sq_steal(struct sq_walk *w)
{
#ifdef CONFIG_MEMCG
	struct mem_cgroup *memcg;

	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL)) {
		struct deferred_split *from = &memcg->deferred_split_queue;

		if (!spin_trylock(&from->split_queue_lock))
			continue;
		if (!list_empty(&from->split_queue)) {
			w->stolen = from->split_queue.next;
			w->from = from;
			list_move(w->stolen, &w->queue->split_queue);
			from->split_queue_len--;
			w->queue->split_queue_len++;
			w->run->planted = w->stolen;
			mem_cgroup_iter_break(NULL, memcg);
			/* For sparse: held until sq_undo(). */
			__release(&from->split_queue_lock);
			return;
		}
		spin_unlock(&from->split_queue_lock);
	}
#endif
}

static void sq_plant(struct sq_walk *w)
{
	struct list_head *head = &w->queue->split_queue;

	if (w->run->planted)
		return;
	switch (w->run->inject) {
	case SQ_LEN:
		w->queue->split_queue_len--;
		w->run->planted = w->queue;
		break;
	case SQ_OWNER:
		if (!w->memcg)
			sq_steal(w);
		break;
	case SQ_LINKS:
		if (list_empty(head))
			break;
		w->stolen = head->next;
		w->stolen->next->prev = w->stolen->next;
		w->run->planted = w->stolen;
		break;
	}
}

static void sq_undo(struct sq_walk *w)
{
	if (w->run->inject == SQ_LEN && w->run->planted == w->queue)
		w->queue->split_queue_len++;
	if (w->from) {
		list_move(w->stolen, &w->from->split_queue);
		w->from->split_queue_len++;
		w->queue->split_queue_len--;
		__acquire(&w->from->split_queue_lock);	/* in sq_steal() */
		spin_unlock(&w->from->split_queue_lock);
	} else if (w->stolen) {
		w->stolen->next->prev = w->stolen;
	}
}
#else
static inline void sq_plant(struct sq_walk *w)
{
}

static inline void sq_undo(struct sq_walk *w)
{
}
#endif

static int sq_verify_queue(struct mm_verify_run *run,
			   struct deferred_split *queue,
			   struct mem_cgroup *memcg, int nid)
{
	struct sq_walk w = {
		.run = run, .queue = queue, .memcg = memcg, .nid = nid,
	};
	unsigned long left = READ_ONCE(mm_verify_max_hold);
	struct list_head *pos;
	unsigned long flags;
	long pages = 0, len;

	spin_lock_irqsave(&queue->split_queue_lock, flags);
	sq_plant(&w);
	list_for_each(pos, &queue->split_queue) {
		struct page *page = sq_page(pos);

		if (!left) {
			run->figures[SQ_UNCOUNTED]++;
			break;
		}
		left--;
		pages++;
		if (!mm_verify_linked(pos)) {
			sq_found(&w, SQ_LINKS, pos);
			break;
		}
		if (sq_memcg(page) != memcg ||
		    (nid != NUMA_NO_NODE && page_to_nid(page) != nid))
			sq_found(&w, SQ_OWNER, pos);
	}
	run->checked += pages + 1;
	len = queue->split_queue_len;
	if (len < pages)
		mm_verify_found(run, SQ_LEN, queue,
				"queue %px node %d memcg %px: length %ld, pages on the queue %ld",
				queue, nid, memcg, len, pages);
	else
		run->figures[SQ_AHEAD] += len - pages;
	sq_undo(&w);
	spin_unlock_irqrestore(&queue->split_queue_lock, flags);

	return mm_verify_pause(run);
}

static int split_queue_verify(struct mm_verify_run *run)
{
	int nid, ret;
#ifdef CONFIG_MEMCG
	struct mem_cgroup *memcg;

	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL)) {
		ret = sq_verify_queue(run, &memcg->deferred_split_queue, memcg,
				      NUMA_NO_NODE);
		if (ret) {
			mem_cgroup_iter_break(NULL, memcg);
			return ret;
		}
	}
#endif
	for_each_online_node(nid) {
		ret = sq_verify_queue(run,
				      &NODE_DATA(nid)->deferred_split_queue,
				      NULL, nid);
		if (ret)
			return ret;
	}
	return 0;
}

static struct mm_verifier split_queue_verifier = {
	.name		= "split_queue",
	.findings	= split_queue_findings,
	.nr_findings	= SQ_NR_FINDINGS,
	.figures	= split_queue_figures,
	.nr_figures	= SQ_NR_FIGURES,
	.verify		= split_queue_verify,
};

static int __init split_queue_init(void)
{
	return mm_verify_register(&split_queue_verifier);
}
late_initcall(split_queue_init);
