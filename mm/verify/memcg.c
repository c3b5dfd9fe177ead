// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of what memory cgroups count: every folio of online memory, by pfn,
 * against the counters of the group that it is charged to.
 *
 * No lock pins a group's counters together with its folios.  So each group has
 * a number that changes before any of them does (memcg_audit_touch()), and the
 * sums of a walk are compared when the number stayed what it was:
 *
 *	read the numbers; walk; wait for an RCU grace period; read the counters;
 *	read the numbers again
 *
 * What changes a folio and the counter for it does so in one RCU read-side
 * section - under the page-table lock, with interrupts off, between
 * folio_memcg_lock() and folio_memcg_unlock() - or with the folio locked.  Of
 * the first kind, one that began before the walk was over has touched the
 * number when the grace period is, or had done so before the walk, and then
 * has changed the counter.  Of the second, the walk sees the folio locked, or
 * unlocked before or after, and a group with a locked folio is not compared
 * either.  What is busy is left out; what is said of the rest is exact.
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/backing-dev.h>
#include <linux/cgroup.h>
#include <linux/delay.h>
#include <linux/huge_mm.h>
#include <linux/init.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "memcg.h"

#define MA_WALKS	5
#define MA_BATCH	1024	/* pages between two chances for others to run */

static const char * const memcg_findings[MA_NR_FINDINGS] = {
	[MA_ANON_MAPPED]	= "anon_mapped",
	[MA_FILE_MAPPED]	= "file_mapped",
	[MA_FILE_PAGES]		= "file_pages",
	[MA_SHMEM]		= "shmem",
	[MA_FILE_DIRTY]		= "file_dirty",
	[MA_WRITEBACK]		= "writeback",
	[MA_SWAPCACHE]		= "swapcache",
	[MA_ANON_THPS]		= "anon_thps",
	[MA_SHMEM_THPS]		= "shmem_thps",
	[MA_FILE_THPS]		= "file_thps",
	[MA_SHMEM_PMDMAPPED]	= "shmem_pmdmapped",
	[MA_FILE_PMDMAPPED]	= "file_pmdmapped",
	[MA_NEGATIVE]		= "negative",
	[MA_NODES]		= "nodes",
	[MA_HIERARCHY]		= "hierarchy",
};

static const enum node_stat_item ma_items[MA_NR_ITEMS] = {
	[MA_ANON_MAPPED]	= NR_ANON_MAPPED,
	[MA_FILE_MAPPED]	= NR_FILE_MAPPED,
	[MA_FILE_PAGES]		= NR_FILE_PAGES,
	[MA_SHMEM]		= NR_SHMEM,
	[MA_FILE_DIRTY]		= NR_FILE_DIRTY,
	[MA_WRITEBACK]		= NR_WRITEBACK,
#ifdef CONFIG_SWAP
	[MA_SWAPCACHE]		= NR_SWAPCACHE,
#else
	[MA_SWAPCACHE]		= NR_VM_NODE_STAT_ITEMS,
#endif
	[MA_ANON_THPS]		= NR_ANON_THPS,
	[MA_SHMEM_THPS]		= NR_SHMEM_THPS,
	[MA_FILE_THPS]		= NR_FILE_THPS,
	[MA_SHMEM_PMDMAPPED]	= NR_SHMEM_PMDMAPPED,
	[MA_FILE_PMDMAPPED]	= NR_FILE_PMDMAPPED,
};

enum memcg_figure {
	MA_GROUPS,		/* groups, dying ones included */
	MA_UNSETTLED,		/* of these, never compared: always busy */
	MA_TREE_UNSETTLED,	/* of these, not compared with those below */
	MA_FOLIOS,		/* charged folios seen by the first walk */
	MA_ALL_WALKS,
	MA_DRIFT_PAGES,		/* sum of the differences of groups */
	MA_NR_FIGURES,
};

static const char * const memcg_figures[MA_NR_FIGURES] = {
	[MA_GROUPS]		= "groups",
	[MA_UNSETTLED]		= "unsettled_groups",
	[MA_TREE_UNSETTLED]	= "unsettled_trees",
	[MA_FOLIOS]		= "folios",
	[MA_ALL_WALKS]		= "walks",
	[MA_DRIFT_PAGES]	= "drift_pages",
};

enum ma_judged {
	MA_OPEN,		/* not compared yet */
	MA_SUSPECT,		/* a difference, seen once */
	MA_DONE,
};

/**
 * struct ma_slot - one group
 * @memcg: the group, with a reference
 * @seq: its number before the walk
 * @disturbed: a folio of it was locked
 * @state: how far it has been judged
 */
struct ma_slot {
	struct mem_cgroup *memcg;
	unsigned long seq;
	bool disturbed;
	enum ma_judged state;
};

/**
 * struct ma_audit - one run
 * @run: where findings go
 * @nr: groups, in @slot
 * @slot: the groups; those above come before those below
 * @columns: nodes, and one more for the group as a whole
 * @walked: for each slot, column and item what the walk adds up to
 * @seen: likewise, the difference that was seen first
 * @first: folios are counted, which is once
 * @device: anonymous memory may be where no walk comes by
 * @planted: the slot whose counter was spoilt, and by how much, and where
 * @delta: see @planted
 * @nid: see @planted
 * @item: see @planted
 */
struct ma_audit {
	struct mm_verify_run *run;
	unsigned int nr;
	struct ma_slot *slot;
	unsigned int columns;
	long *walked;
	long *seen;
	bool first;
	bool device;
	struct ma_slot *planted;
	long delta;
	int nid;
	unsigned int item;
};

static long *ma_cell(struct ma_audit *a, long *table, struct ma_slot *slot,
		     unsigned int column)
{
	return table + ((slot - a->slot) * a->columns + column) * MA_NR_ITEMS;
}

static struct ma_slot *ma_slot_of(struct ma_audit *a, struct mem_cgroup *memcg)
{
	unsigned int i = READ_ONCE(*memcg_audit_slot(memcg));

	return i < a->nr && a->slot[i].memcg == memcg ? &a->slot[i] : NULL;
}

/* The members of the page, and not the macros that insist on what it is. */
static bool ma_flag(unsigned long flags, int flag)
{
	return flags & BIT(flag);
}

static bool ma_is_tail(struct page *page)
{
	return READ_ONCE(page->compound_head) & 1;
}

static unsigned int ma_order(struct page *page, unsigned long flags)
{
	unsigned int order = 0;

	if (ma_flag(flags, PG_head))
		order = READ_ONCE(page[1].compound_order);
	return order < MAX_ORDER ? order : 0;
}

static long ma_mapped(struct page *page, unsigned int order, bool whole)
{
	long i, mapped = 0;

	if (whole)
		return 1L << order;
	for (i = 0; i < 1L << order; i++)
		mapped += atomic_read(&page[i]._mapcount) >= 0;
	return mapped;
}

/*
 * Only the lock keeps the mapping and what it leads to. Returns false when the
 * folio is not to be had: it is busy.
 */
static bool ma_accounts_dirty(struct page *page, bool *accounts)
{
	struct folio *folio;
	bool ret = false;

	if (!get_page_unless_zero(page))
		return false;
	folio = page_folio(page);
	if (&folio->page == page && folio_trylock(folio)) {
		*accounts = folio->mapping && !folio_mapping_flags(folio) &&
			    mapping_can_writeback(folio->mapping);
		folio_unlock(folio);
		ret = true;
	}
	put_page(page);
	return ret;
}

static void ma_add_anon(long *sum, struct page *page, unsigned int order,
			bool whole)
{
	sum[MA_ANON_MAPPED] += ma_mapped(page, order, whole);
	if (whole)
		sum[MA_ANON_THPS] += 1L << order;
}

/* Returns false when the folio is busy. */
static bool ma_add_file(long *sum, struct page *page, unsigned int order,
			unsigned long flags, bool whole)
{
	bool shmem = ma_flag(flags, PG_swapbacked), accounts = false;
	bool huge = IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
		    order >= HPAGE_PMD_ORDER;
	long nr = 1L << order;

	sum[MA_FILE_PAGES] += nr;
	sum[MA_FILE_MAPPED] += ma_mapped(page, order, whole);
	if (shmem)
		sum[MA_SHMEM] += nr;
	if (huge)
		sum[shmem ? MA_SHMEM_THPS : MA_FILE_THPS] += nr;
	if (whole)
		sum[shmem ? MA_SHMEM_PMDMAPPED : MA_FILE_PMDMAPPED] += nr;
	if (!shmem && ma_flag(flags, PG_dirty)) {
		if (!ma_accounts_dirty(page, &accounts))
			return false;
		if (accounts)
			sum[MA_FILE_DIRTY] += nr;
	}
	return true;
}

/*
 * A page that anyone may be doing anything with. What is read may be nonsense;
 * then whoever changed it has touched the group's number, or has it locked.
 */
static void ma_page(struct ma_audit *a, struct page *page)
{
	unsigned long data = READ_ONCE(page->memcg_data), mapping, flags;
	struct mem_cgroup *memcg;
	bool whole, busy = false;
	struct ma_slot *slot;
	unsigned int order;
	long *sum;

	if (!data || ma_is_tail(page) || data & MEMCG_DATA_OBJCGS)
		return;
	memcg = (void *)(data & ~MEMCG_DATA_FLAGS_MASK);
	if (data & MEMCG_DATA_KMEM) {
		/* Drivers map such pages into processes, and that counts. */
		if (atomic_read(&page->_mapcount) < 0)
			return;
		memcg = READ_ONCE(((struct obj_cgroup *)memcg)->memcg);
	}
	slot = ma_slot_of(a, memcg);
	if (!slot)
		return;

	flags = READ_ONCE(page->flags);
	/* The lock is looked at before all else, and after. */
	smp_rmb();
	mapping = (unsigned long)READ_ONCE(page->mapping);
	order = ma_order(page, flags);
	whole = order && IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
		atomic_read(compound_mapcount_ptr(page)) >= 0;
	sum = ma_cell(a, a->walked, slot, page_to_nid(page));

	if (data & MEMCG_DATA_KMEM)
		sum[MA_FILE_MAPPED] += ma_mapped(page, order, false);
	else if (mapping & PAGE_MAPPING_ANON)
		ma_add_anon(sum, page, order, whole);
	else if (mapping && !(mapping & PAGE_MAPPING_FLAGS))
		busy = !ma_add_file(sum, page, order, flags, whole);
	/* What shmem has in the swap cache has no mapping. */
	if (ma_flag(flags, PG_swapbacked) && ma_flag(flags, PG_swapcache))
		sum[MA_SWAPCACHE] += 1L << order;
	if (ma_flag(flags, PG_writeback))
		sum[MA_WRITEBACK] += 1L << order;

	/* All that was read above was read before the lock is. */
	smp_rmb();
	if (busy || ma_flag(flags, PG_locked) ||
	    ma_flag(READ_ONCE(page->flags), PG_locked) ||
	    READ_ONCE(page->memcg_data) != data)
		slot->disturbed = true;
	if (a->first)
		a->run->figures[MA_FOLIOS]++;
}

static int ma_walk(struct ma_audit *a)
{
	unsigned long pfn, next, end, i;
	struct zone *zone;
	int ret;

	a->run->figures[MA_ALL_WALKS]++;
	for_each_populated_zone(zone) {
		end = zone_end_pfn(zone);
		for (pfn = zone->zone_start_pfn; pfn < end; pfn = next) {
			next = min(ALIGN(pfn + 1, MA_BATCH), end);
			if (!pfn_to_online_page(pfn))
				continue;
			/* Keeps a group whose last folio is just being freed. */
			rcu_read_lock();
			for (i = pfn; i < next; i++)
				if (page_zone(pfn_to_page(i)) == zone)
					ma_page(a, pfn_to_page(i));
			rcu_read_unlock();
			ret = mm_verify_pause(a->run);
			if (ret)
				return ret;
		}
	}
	a->first = false;
	return 0;
}

static bool ma_compared(struct ma_audit *a, unsigned int item)
{
	return ma_items[item] < NR_VM_NODE_STAT_ITEMS &&
	       !(a->device && item == MA_ANON_MAPPED);
}

static long ma_counter(struct ma_audit *a, struct ma_slot *slot,
		       unsigned int column, unsigned int item)
{
	if (column == a->columns - 1)
		return memcg_audit_local(slot->memcg, ma_items[item]);
	if (!node_state(column, N_POSSIBLE))
		return 0;
	return memcg_audit_node(slot->memcg, column, ma_items[item]);
}

static void ma_found(struct ma_audit *a, struct ma_slot *slot,
		     unsigned int finding, unsigned int item, int nid,
		     long counter, long is)
{
	struct mem_cgroup *memcg = slot->memcg;

	mm_verify_found(a->run, finding, memcg,
			"group %d%s memcg:%px%s node %d: %s is %ld, %s %ld",
			cgroup_id(memcg->css.cgroup) > INT_MAX ? -1 :
			(int)cgroup_id(memcg->css.cgroup),
			mem_cgroup_is_root(memcg) ? " (root)" : "", memcg,
			mem_cgroup_online(memcg) ? "" : " (dying)", nid,
			memcg_findings[item], counter,
			finding == MA_HIERARCHY ? "sum over the tree" :
						  "walked", is);
}

/* A difference that was seen twice, with nothing touched during either walk. */
static void ma_report(struct ma_audit *a, struct ma_slot *slot)
{
	unsigned int column = a->columns, item;
	bool whole[MA_NR_ITEMS] = {};

	while (column--) {
		long *walked = ma_cell(a, a->walked, slot, column);
		long *seen = ma_cell(a, a->seen, slot, column);
		bool group = column == a->columns - 1;

		for (item = 0; item < MA_NR_ITEMS; item++) {
			long counter = walked[item] + seen[item];
			unsigned int finding = item;

			if (!seen[item])
				continue;
			if (counter < 0)
				finding = MA_NEGATIVE;
			else if (!group && whole[item])
				continue;
			else if (!group)
				finding = MA_NODES;
			ma_found(a, slot, finding, item,
				 group ? NUMA_NO_NODE : (int)column, counter,
				 walked[item]);
			whole[item] |= group;
			if (group)
				a->run->figures[MA_DRIFT_PAGES] +=
					abs(seen[item]);
		}
	}
}

/* A group that was left alone during the walk. */
static void ma_compare(struct ma_audit *a, struct ma_slot *slot)
{
	bool differs = false, same = true;
	unsigned int column, item;

	for (column = 0; column < a->columns; column++) {
		long *walked = ma_cell(a, a->walked, slot, column);
		long *seen = ma_cell(a, a->seen, slot, column);

		for (item = 0; item < MA_NR_ITEMS; item++) {
			long d = 0;

			if (ma_compared(a, item))
				d = ma_counter(a, slot, column, item) -
				    walked[item];
			differs |= d;
			same &= d == seen[item];
			seen[item] = d;
		}
	}
	/* The counters were read one after the other. */
	if (memcg_audit_seq(slot->memcg) != slot->seq)
		return;

	if (slot->state == MA_OPEN)
		a->run->checked += a->columns * MA_NR_ITEMS;
	if (!differs) {
		slot->state = MA_DONE;
	} else if (slot->state == MA_SUSPECT && same) {
		ma_report(a, slot);
		slot->state = MA_DONE;
	} else {
		slot->state = MA_SUSPECT;
	}
}

/* Returns how many groups are left, or an error. */
static int ma_round(struct ma_audit *a)
{
	unsigned int i, column, item;
	int ret, left = 0;

	memset(a->walked, 0,
	       array3_size(a->nr, a->columns, MA_NR_ITEMS * sizeof(long)));
	for (i = 0; i < a->nr; i++) {
		a->slot[i].disturbed = false;
		a->slot[i].seq = memcg_audit_seq(a->slot[i].memcg);
	}

	ret = ma_walk(a);
	if (ret)
		return ret;
	synchronize_rcu();

	for (i = 0; i < a->nr; i++) {
		struct ma_slot *slot = &a->slot[i];
		long *whole = ma_cell(a, a->walked, slot, a->columns - 1);

		if (slot->state == MA_DONE)
			continue;
		for (column = 0; column < a->columns - 1; column++)
			for (item = 0; item < MA_NR_ITEMS; item++)
				whole[item] += ma_cell(a, a->walked, slot,
						       column)[item];
		if (!slot->disturbed)
			ma_compare(a, slot);
		left += slot->state != MA_DONE;
		ret = mm_verify_pause(a->run);
		if (ret)
			return ret;
	}
	return left;
}

/*
 * Spoil a counter of a group that is known to be right and quiet. Nothing but
 * statistics is made of these counters, and it is put right at the end.
 */
static void ma_plant(struct ma_audit *a, bool hierarchy)
{
#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
	int finding = a->run->inject;
	unsigned int i;

	if (finding == MM_VERIFY_NO_INJECTION || a->planted)
		return;
	if (hierarchy ? finding != MA_HIERARCHY : finding == MA_HIERARCHY)
		return;
	a->item = finding < MA_NR_ITEMS ? finding : MA_FILE_MAPPED;
	if (!ma_compared(a, a->item))
		return;
	for (i = a->nr; i-- && !a->planted; ) {
		struct ma_slot *slot = &a->slot[i];

		if (slot->state == MA_DONE && !slot->disturbed &&
		    memcg_audit_seq(slot->memcg) == slot->seq)
			a->planted = slot;
	}
	if (!a->planted)
		return;
	a->nid = first_online_node;
	a->delta = 1;
	if (finding == MA_NEGATIVE)
		a->delta = -1 - memcg_audit_local(a->planted->memcg,
						  ma_items[a->item]);
	memcg_audit_plant(a->planted->memcg, a->nid, ma_items[a->item],
			  finding, a->delta);
	a->planted->state = MA_OPEN;
	a->run->planted = a->planted->memcg;
#endif
}

static void ma_undo(struct ma_audit *a)
{
#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
	if (a->planted)
		memcg_audit_plant(a->planted->memcg, a->nid, ma_items[a->item],
				  a->run->inject, -a->delta);
#endif
}

/* The group and those above are not to be compared. */
static void ma_disturb_up(struct ma_audit *a, struct mem_cgroup *memcg)
{
	struct ma_slot *slot;

	for (; memcg; memcg = parent_mem_cgroup(memcg)) {
		slot = ma_slot_of(a, memcg);
		if (slot)
			slot->disturbed = true;
	}
}

/*
 * A flushed counter is that of a group and all below. One of a group that has
 * gone lives on in those above, and if it was wrong this is where it shows.
 * Returns how many groups are left, or an error.
 */
static int ma_trees(struct ma_audit *a)
{
	struct mem_cgroup *memcg, *above;
	unsigned int i, item;
	int left = 0;

	memset(a->walked, 0,
	       array3_size(a->nr, a->columns, MA_NR_ITEMS * sizeof(long)));
	for (i = 0; i < a->nr; i++) {
		a->slot[i].disturbed = false;
		a->slot[i].seq = memcg_audit_seq(a->slot[i].memcg);
	}
	/* For what had touched the number and not yet the counter. */
	synchronize_rcu();
	/* An update that comes during a flush may not have asked for another. */
	for (i = 0; i < a->nr; i++) {
		int cpu;

		for_each_possible_cpu(cpu)
			cgroup_rstat_updated(a->slot[i].memcg->css.cgroup, cpu);
	}
	cgroup_rstat_flush(root_mem_cgroup->css.cgroup);

	for (i = 0; i < a->nr; i++) {
		memcg = a->slot[i].memcg;
		for (item = 0; item < MA_NR_ITEMS; item++) {
			long own;

			if (!ma_compared(a, item))
				continue;
			own = memcg_audit_local(memcg, ma_items[item]);
			for (above = memcg; above;
			     above = parent_mem_cgroup(above)) {
				struct ma_slot *slot = ma_slot_of(a, above);

				if (slot)
					ma_cell(a, a->walked, slot, 0)[item] += own;
			}
		}
	}

	for (i = 0; i < a->nr; i++) {
		struct ma_slot *slot = &a->slot[i];
		long *sum = ma_cell(a, a->walked, slot, 0);

		for (item = 0; item < MA_NR_ITEMS; item++)
			if (ma_compared(a, item))
				ma_cell(a, a->walked, slot, 1)[item] =
					memcg_audit_tree(slot->memcg,
							 ma_items[item]) -
					sum[item];
	}
	/* A group that came meanwhile, or one that was busy. */
	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL)) {
		struct ma_slot *slot = ma_slot_of(a, memcg);

		if (!slot || memcg_audit_seq(memcg) != slot->seq)
			ma_disturb_up(a, memcg);
	}

	for (i = 0; i < a->nr; i++) {
		struct ma_slot *slot = &a->slot[i];
		long *sum = ma_cell(a, a->walked, slot, 0);
		long *now = ma_cell(a, a->walked, slot, 1);
		long *seen = ma_cell(a, a->seen, slot, 1);
		bool differs = false, same = true;

		if (slot->state == MA_DONE)
			continue;
		if (slot->disturbed) {
			left++;
			continue;
		}
		for (item = 0; item < MA_NR_ITEMS; item++) {
			differs |= now[item];
			same &= now[item] == seen[item];
			seen[item] = now[item];
		}
		if (slot->state == MA_OPEN)
			a->run->checked += MA_NR_ITEMS;
		if (differs && (slot->state == MA_OPEN || !same)) {
			slot->state = MA_SUSPECT;
			left++;
			continue;
		}
		slot->state = MA_DONE;
		for (item = 0; item < MA_NR_ITEMS; item++)
			if (now[item])
				ma_found(a, slot, MA_HIERARCHY, item,
					 NUMA_NO_NODE, sum[item] + now[item],
					 sum[item]);
	}
	return left;
}

static void ma_put_groups(struct ma_audit *a)
{
	while (a->nr)
		css_put(&a->slot[--a->nr].memcg->css);
	kvfree(a->slot);
	kvfree(a->walked);
	kvfree(a->seen);
}

static int ma_get_groups(struct ma_audit *a)
{
	struct mem_cgroup *memcg;
	unsigned int max = 0;

	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL))
		max++;
	/* For some that come between the two. */
	max += 16;
	/* ma_trees() needs two columns. */
	a->columns = nr_node_ids + 1;
	a->slot = kvcalloc(max, sizeof(*a->slot), GFP_KERNEL);
	a->walked = kvcalloc(max, array_size(a->columns, MA_NR_ITEMS * sizeof(long)),
			     GFP_KERNEL);
	a->seen = kvcalloc(max, array_size(a->columns, MA_NR_ITEMS * sizeof(long)),
			   GFP_KERNEL);
	if (!a->slot || !a->walked || !a->seen)
		return -ENOMEM;

	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL)) {
		if (a->nr == max) {
			mem_cgroup_iter_break(NULL, memcg);
			return -EAGAIN;
		}
		css_get(&memcg->css);
		a->slot[a->nr].memcg = memcg;
		WRITE_ONCE(*memcg_audit_slot(memcg), a->nr);
		a->nr++;
	}
	a->run->figures[MA_GROUPS] = a->nr;
	return 0;
}

static bool ma_device_memory(void)
{
#ifdef CONFIG_ZONE_DEVICE
	pg_data_t *pgdat;

	for_each_online_pgdat(pgdat)
		if (!zone_is_empty(&pgdat->node_zones[ZONE_DEVICE]))
			return true;
#endif
	return false;
}

/* Rounds until every group has been judged, or is too busy. */
static int ma_rounds(struct ma_audit *a, int (*round)(struct ma_audit *a))
{
	int i, ret = 0;

	for (i = 0; i < MA_WALKS; i++) {
		if (i)
			msleep(20);
		ret = round(a);
		if (ret <= 0)
			break;
	}
	return ret;
}

static int ma_verify(struct ma_audit *a)
{
	unsigned int i;
	int ret;

	ret = ma_get_groups(a);
	if (ret)
		return ret;
	a->first = true;
	a->device = ma_device_memory();

	ret = ma_rounds(a, ma_round);
	if (ret < 0)
		return ret;
	ma_plant(a, false);
	if (a->planted)
		ret = ma_rounds(a, ma_round);
	if (ret < 0)
		return ret;
	a->run->figures[MA_UNSETTLED] = ret;

	for (i = 0; i < a->nr; i++)
		a->slot[i].state = MA_OPEN;
	ret = ma_rounds(a, ma_trees);
	if (ret < 0)
		return ret;
	ma_plant(a, true);
	if (a->planted && a->run->inject == MA_HIERARCHY)
		ret = ma_rounds(a, ma_trees);
	if (ret < 0)
		return ret;
	a->run->figures[MA_TREE_UNSETTLED] = ret;
	return 0;
}

static int memcg_verify(struct mm_verify_run *run)
{
	struct ma_audit a = { .run = run };
	int ret;

	if (mem_cgroup_disabled())
		return 0;

	get_online_mems();
	ret = ma_verify(&a);
	ma_undo(&a);
	ma_put_groups(&a);
	put_online_mems();
	return ret;
}

static struct mm_verifier memcg_verifier = {
	.name		= "memcg",
	.findings	= memcg_findings,
	.nr_findings	= MA_NR_FINDINGS,
	.figures	= memcg_figures,
	.nr_figures	= MA_NR_FIGURES,
	.verify		= memcg_verify,
};

static int __init memcg_verify_init(void)
{
	return mm_verify_register(&memcg_verifier);
}
late_initcall(memcg_verify_init);
