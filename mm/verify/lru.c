// SPDX-License-Identifier: GPL-2.0
/*
 * Verifier of the LRU lists, classic and multi-generational.
 *
 *  walk: every list of every lruvec, under its lru_lock, which pins what is on
 *	the lists and what their sizes say.
 *  scan: every folio with PG_lru by pfn, for folios that no list leads to.
 *
 * What lru_lock does not pin is PG_lru of a folio that somebody is about to take
 * off its list: who clears the flag takes the lock after that. So a folio on a
 * list without the flag is a finding when it stays so; see lru_settle().
 *
 * See Documentation/mm/verify.rst.
 */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmzone.h>
#include <linux/vmstat.h>

#include "lru.h"

/* A folio without PG_lru is looked at so often, 10 ms and longer apart. */
#define LRU_ROUNDS	10
#define LRU_SUSPECTS	16
/* A difference of the node's counters has to stand for so many walks. */
#define LRU_WALKS	3

static const char * const lru_findings[LF_NR_FINDINGS] = {
	[LF_FLAG]		= "flag",
	[LF_LIST]		= "list",
	[LF_LRUVEC]		= "lruvec",
	[LF_LINKS]		= "links",
	[LF_LOST]		= "lost",
	[LF_LRU_SIZE]		= "lru_size",
	[LF_GEN_SIZE]		= "gen_size",
	[LF_NODE_SIZE]		= "node_size",
};

enum lru_figure {
	LF_PAGES,		/* pages on all lists */
	LF_GEN_PAGES,		/* of these, on lists of generations */
	LF_LRUVECS,		/* lruvecs walked */
	LF_SUSPECTS,		/* folios seen without PG_lru at first */
	LF_UNCOUNTED,		/* lists too long for one hold */
	LF_NR_FIGURES,
};

static const char * const lru_figures[LF_NR_FIGURES] = {
	[LF_PAGES]		= "pages",
	[LF_GEN_PAGES]		= "gen_pages",
	[LF_LRUVECS]		= "lruvecs",
	[LF_SUSPECTS]		= "suspects",
	[LF_UNCOUNTED]		= "uncounted_lists",
};

/**
 * struct lru_walk - one walk over the lists of one place
 * @run: where findings go
 * @place: the lists
 * @quiet: a walk repeated: folios were judged by the first
 * @whole: every entry was visited
 * @pages: pages by zone
 * @node: what the node's counter says less what the list holds
 * @suspects: folios on the list without PG_lru
 * @nr_suspects: how many; more than LRU_SUSPECTS are not remembered
 */
struct lru_walk {
	struct mm_verify_run *run;
	const struct lru_place *place;
	bool quiet;
	bool whole;
	unsigned long pages[MAX_NR_ZONES];
	long node;
	struct folio *suspects[LRU_SUSPECTS];
	unsigned int nr_suspects;
};

/* Without the checks of folio_test_lru(): the folio may be any page by now. */
static bool lru_flagged(struct folio *folio)
{
	return test_bit(PG_lru, &folio->flags);
}

/* folio_memcg() checks, and this is no place to trust the folio. */
static struct mem_cgroup *lru_memcg(struct folio *folio)
{
#ifdef CONFIG_MEMCG
	return (struct mem_cgroup *)(READ_ONCE(folio->memcg_data) &
				     ~MEMCG_DATA_FLAGS_MASK);
#else
	return NULL;
#endif
}

/* What folio_lruvec() says, without its warning. */
static struct lruvec *lru_of_folio(struct folio *folio)
{
	return mem_cgroup_lruvec(lru_memcg(folio), folio_pgdat(folio));
}

static void lru_folio_found(struct mm_verify_run *run, unsigned int finding,
			    struct folio *folio, const struct lru_place *place)
{
	struct lruvec *lruvec = place->lruvec;

	mm_verify_found(run, finding, folio,
			"node %d lruvec %px memcg %px lru %d type %d zone %d: pfn %#lx\n"
			"folio:%px flags:%pGp refcount:%d mapcount:%d mapping:%px index:%lx\n"
			"memcg:%px lruvec:%px lru next:%px prev:%px",
			lruvec_pgdat(lruvec)->node_id, lruvec,
			lruvec_memcg(lruvec), place->lru, place->type,
			place->zone, folio_pfn(folio), folio, &folio->flags,
			folio_ref_count(folio), atomic_read(&folio->_mapcount),
			folio->mapping, folio->index, lru_memcg(folio),
			lru_of_folio(folio), folio->lru.next, folio->lru.prev);
}

/* Do the folio's flags name this list? The lock pins those that do. */
static bool lru_list_matches(struct folio *folio, const struct lru_place *place)
{
	unsigned long flags = READ_ONCE(folio->flags);
	int file = !(flags & BIT(PG_swapbacked));

	if (flags & BIT(PG_unevictable))
		return false;
#ifdef CONFIG_LRU_GEN
	/* Walkers of page tables change the number, not that there is one. */
	if (lru_place_is_gens(place))
		return (flags & LRU_GEN_MASK) && !(flags & BIT(PG_active)) &&
		       file == place->type && folio_zonenum(folio) == place->zone;
	if (flags & LRU_GEN_MASK)
		return false;
#endif
	return place->lru == (file ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON) +
			     (flags & BIT(PG_active) ? LRU_ACTIVE : 0);
}

static void lru_check_folio(struct lru_walk *w, struct folio *folio)
{
	if (!lru_flagged(folio) && w->nr_suspects < LRU_SUSPECTS)
		w->suspects[w->nr_suspects++] = folio;
	if (w->quiet)
		return;
	if (lru_of_folio(folio) != w->place->lruvec)
		lru_folio_found(w->run, LF_LRUVEC, folio, w->place);
	if (!lru_list_matches(folio, w->place))
		lru_folio_found(w->run, LF_LIST, folio, w->place);
}

/* One list, at most *left entries; false when it was not walked to its end. */
static bool lru_walk_list(struct lru_walk *w, struct list_head *head,
			  unsigned long *left)
{
	struct list_head *pos;

	list_for_each(pos, head) {
		struct folio *folio = list_entry(pos, struct folio, lru);
		bool sane = !PageTail(&folio->page) && mm_verify_linked(pos);

		if (!*left)
			return false;
		--*left;
		if (!w->quiet)
			w->run->checked++;
		if (!sane) {
			if (!w->quiet)
				lru_folio_found(w->run, LF_LINKS, folio,
						w->place);
			return false;
		}
		w->pages[folio_zonenum(folio)] += folio_nr_pages(folio);
		lru_check_folio(w, folio);
	}
	return true;
}

/* A node's counter to the page: the part that CPUs keep to themselves included. */
static long lru_node_counter(struct pglist_data *pgdat, enum node_stat_item item)
{
	long sum = atomic_long_read(&pgdat->vm_stat[item]);
#ifdef CONFIG_SMP
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu_ptr(pgdat->per_cpu_nodestats, cpu)->vm_node_stat_diff[item];
#endif
	return sum;
}

/* A memcg's sizes are written under the lock, so they are exact under it. */
static void lru_compare_memcg(struct lru_walk *w)
{
#ifdef CONFIG_MEMCG
	const struct lru_place *place = w->place;
	struct mem_cgroup_per_node *mz;
	int zone;

	mz = container_of(place->lruvec, struct mem_cgroup_per_node, lruvec);
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		if (mz->lru_zone_size[zone][place->lru] != w->pages[zone])
			mm_verify_found(w->run, LF_LRU_SIZE, mz,
					"node %d memcg %px lru %d zone %d: lru_zone_size %lu, pages on the list %lu",
					lruvec_pgdat(place->lruvec)->node_id,
					mz->memcg, place->lru, zone,
					mz->lru_zone_size[zone][place->lru],
					w->pages[zone]);
#endif
}

/*
 * Walkers of page tables keep what they moved from one generation to another to
 * themselves for a while: the sum over all generations is right at any time.
 */
static void lru_compare_gens(struct lru_walk *w)
{
#ifdef CONFIG_LRU_GEN
	const struct lru_place *place = w->place;
	long sum = 0;
	int gen;

	for (gen = 0; gen < MAX_NR_GENS; gen++)
		sum += lru_gen_nr_pages(place->lruvec, gen, place->type,
					place->zone);
	if (sum != w->pages[place->zone])
		mm_verify_found(w->run, LF_GEN_SIZE, place->lruvec,
				"node %d memcg %px type %d zone %d: nr_pages of all generations %ld, pages on the lists %lu",
				lruvec_pgdat(place->lruvec)->node_id,
				lruvec_memcg(place->lruvec), place->type,
				place->zone, sum, w->pages[place->zone]);
#endif
}

/* Walk the lists of a place in one hold, at most max_hold entries. */
static void lru_walk_place(struct lru_walk *w)
{
	unsigned long left = READ_ONCE(mm_verify_max_hold);
	const struct lru_place *place = w->place;
	struct lru_plant plant = {};
	unsigned int i;

	w->whole = true;
	spin_lock_irq(&place->lruvec->lru_lock);
	lru_plant_place(w->run, place, &plant);
	for (i = 0; i < lru_place_heads(place) && w->whole; i++)
		w->whole = lru_walk_list(w, lru_place_head(place, i), &left);

	if (w->whole && !w->quiet) {
		if (lru_place_is_gens(place))
			lru_compare_gens(w);
		else if (!mem_cgroup_disabled())
			lru_compare_memcg(w);
	}
	lru_undo_place(w->run, place, &plant);
	spin_unlock_irq(&place->lruvec->lru_lock);
	/* Not under the lock: it may be the last reference. */
	if (plant.folio)
		folio_put(plant.folio);
}

/*
 * Who clears PG_lru of a folio holds a reference, and takes the lock next: a
 * suspect is right again as soon as that one has had the lock. The flag is
 * looked at first thing in each hold, before the hold itself makes anybody
 * wait. A folio that is isolated over and over would have to be caught between
 * flag and lock each time, and by holds that are ever further apart.
 */
static int lru_settle(struct lru_walk *w)
{
	struct folio *kept[LRU_SUSPECTS];
	unsigned int round, i, j, nr, nr_kept = w->nr_suspects;
	unsigned long left;
	int ret;

	w->run->figures[LF_SUSPECTS] += nr_kept;
	memcpy(kept, w->suspects, sizeof(kept));
	w->quiet = true;

	for (round = 0; round < LRU_ROUNDS && nr_kept; round++) {
		ret = mm_verify_pause(w->run);
		if (ret)
			return ret;
		msleep(10 << min(round, 4U));

		spin_lock_irq(&w->place->lruvec->lru_lock);
		for (i = 0, nr = 0; i < nr_kept; i++)
			if (!lru_flagged(kept[i]))
				kept[nr++] = kept[i];
		nr_kept = nr;
		left = READ_ONCE(mm_verify_max_hold);
		w->nr_suspects = 0;
		for (i = 0; nr_kept && i < lru_place_heads(w->place); i++)
			if (!lru_walk_list(w, lru_place_head(w->place, i), &left))
				break;
		for (i = 0, nr = 0; i < nr_kept; i++)
			for (j = 0; j < w->nr_suspects; j++)
				if (kept[i] == w->suspects[j])
					kept[nr++] = kept[i];
		nr_kept = nr;
		spin_unlock_irq(&w->place->lruvec->lru_lock);
	}

	for (i = 0; i < nr_kept; i++)
		lru_folio_found(w->run, LF_FLAG, kept[i], w->place);
	return 0;
}

static int lru_verify_place(struct mm_verify_run *run,
			    const struct lru_place *place)
{
	struct lru_walk w = { .run = run, .place = place };
	unsigned long pages = 0;
	struct folio *planted;
	int zone, ret;

	planted = lru_plant_flag(run, place);
	lru_walk_place(&w);
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		pages += w.pages[zone];
	run->figures[LF_PAGES] += pages;
	if (lru_place_is_gens(place))
		run->figures[LF_GEN_PAGES] += pages;
	if (!w.whole)
		run->figures[LF_UNCOUNTED]++;

	ret = mm_verify_pause(run);
	if (!ret && w.nr_suspects)
		ret = lru_settle(&w);
	if (planted)
		lru_undo_flag(planted);
	return ret;
}

static int lru_verify_lruvec(struct mm_verify_run *run, struct lruvec *lruvec)
{
	struct lru_place place = { .lruvec = lruvec };
	int ret;

	run->figures[LF_LRUVECS]++;
	/* Unevictable folios are counted and on no list. */
	for_each_evictable_lru(place.lru) {
		ret = lru_verify_place(run, &place);
		if (ret)
			return ret;
	}
	if (!LRU_NR_GENS)
		return 0;

	place.lru = NR_LRU_LISTS;
	for (place.type = 0; place.type < ANON_AND_FILE; place.type++) {
		for (place.zone = 0; place.zone < MAX_NR_ZONES; place.zone++) {
			ret = lru_verify_place(run, &place);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/*
 * One list's share of the node's counter, in one hold: with memcg disabled the
 * node has one lruvec. With generations the counters of active and inactive
 * are told apart by max_seq, so both lists of a type are taken together.
 */
static bool lru_node_diff(struct mm_verify_run *run, struct lruvec *lruvec,
			  int type, long *diff)
{
	struct pglist_data *pgdat = lruvec_pgdat(lruvec);
	enum lru_list lru = type * LRU_FILE;
	struct lru_place place = { .lruvec = lruvec, .lru = lru, .type = type };
	unsigned long left = READ_ONCE(mm_verify_max_hold);
	struct lru_walk w = { .run = run, .place = &place, .quiet = true };
	struct lru_plant plant = {};
	bool whole = true;
	unsigned int i;
	int zone;

	spin_lock_irq(&lruvec->lru_lock);
	if (mm_verify_injecting(run, LF_NODE_SIZE))
		lru_plant_place(run, &place, &plant);
	for (i = 0; i <= LRU_ACTIVE && whole; i++)
		whole = lru_walk_list(&w, &lruvec->lists[lru + i], &left);
	place.lru = NR_LRU_LISTS;
	for (zone = 0; zone < MAX_NR_ZONES && whole; zone++) {
		place.zone = zone;
		for (i = 0; i < lru_place_heads(&place) && whole; i++)
			whole = lru_walk_list(&w, lru_place_head(&place, i),
					      &left);
	}
	*diff = lru_node_counter(pgdat, NR_LRU_BASE + lru) +
		lru_node_counter(pgdat, NR_LRU_BASE + lru + LRU_ACTIVE);
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		*diff -= w.pages[zone];
	place.lru = lru;
	lru_undo_place(run, &place, &plant);
	spin_unlock_irq(&lruvec->lru_lock);
	return whole;
}

/*
 * The counters change under the lock; folding a CPU's part into the node's does
 * not. Only a difference that stands over LRU_WALKS walks is one.
 */
static int lru_verify_node(struct mm_verify_run *run, struct lruvec *lruvec)
{
	long diff, least;
	int type, i, ret;

	for (type = 0; type < ANON_AND_FILE; type++) {
		least = LONG_MAX;
		for (i = 0; i < LRU_WALKS && least; i++) {
			if (!lru_node_diff(run, lruvec, type, &diff)) {
				least = 0;
				break;
			}
			if (i && (diff ^ least) < 0)
				diff = 0;
			if (abs(diff) < abs(least))
				least = diff;
			ret = mm_verify_pause(run);
			if (ret)
				return ret;
			if (least && i + 1 < LRU_WALKS)
				msleep(20);
		}
		if (least)
			mm_verify_found(run, LF_NODE_SIZE,
					&lruvec->lists[type * LRU_FILE],
					"node %d %s: counters less the pages on the lists: %ld",
					lruvec_pgdat(lruvec)->node_id,
					type ? "file" : "anon", least);
	}
	return 0;
}

static int lru_walk(struct mm_verify_run *run)
{
	struct mem_cgroup *memcg;
	int nid, ret = 0;

	/* With memcg disabled this goes round once, with NULL. */
	memcg = mem_cgroup_iter(NULL, NULL, NULL);
	do {
		for_each_node_state(nid, N_MEMORY) {
			struct lruvec *lruvec;

			lruvec = mem_cgroup_lruvec(memcg, NODE_DATA(nid));
			ret = lru_verify_lruvec(run, lruvec);
			if (!ret && mem_cgroup_disabled())
				ret = lru_verify_node(run, lruvec);
			if (ret) {
				mem_cgroup_iter_break(NULL, memcg);
				return ret;
			}
		}
	} while ((memcg = mem_cgroup_iter(NULL, memcg, NULL)));
	return 0;
}

/*
 * PG_lru that is set under the lock of the folio's lruvec says that the folio is
 * on one of its lists: it is set after the folio was put there, and cleared
 * before it is taken off, both under that lock or by who comes for it. Returns
 * how many pages to go on.
 */
static unsigned long lru_scan_folio(struct mm_verify_run *run, struct page *page)
{
	struct folio *folio = page_folio(page);
	struct lru_place place = { .lru = NR_LRU_LISTS };
	struct lru_plant plant = {};
	unsigned long nr = 1;

	if (!lru_flagged(folio) || !folio_try_get(folio))
		return 1;
	/* It may have been freed and be another's, or a part of another. */
	if (folio != page_folio(page) || !lru_flagged(folio) ||
	    folio_test_unevictable(folio))
		goto out;

	place.lruvec = lru_of_folio(folio);
	place.type = folio_is_file_lru(folio);
	place.zone = folio_zonenum(folio);
	spin_lock_irq(&place.lruvec->lru_lock);
	if (lru_flagged(folio) && !folio_test_unevictable(folio) &&
	    lru_of_folio(folio) == place.lruvec) {
		lru_plant_lost(run, folio, &plant);
		if (!mm_verify_linked(&folio->lru))
			lru_folio_found(run, LF_LOST, folio, &place);
		lru_undo_lost(&plant);
		nr = folio_nr_pages(folio) - folio_page_idx(folio, page);
	}
	spin_unlock_irq(&place.lruvec->lru_lock);
out:
	folio_put(folio);
	return nr;
}

static int lru_scan(struct mm_verify_run *run)
{
	struct zone *zone;
	int ret;

	for_each_populated_zone(zone) {
		unsigned long pfn = zone->zone_start_pfn, end = zone_end_pfn(zone);
		unsigned long batch = pfn;

		while (pfn < end) {
			struct page *page = pfn_to_online_page(pfn);

			if (!page)
				pfn = pageblock_end_pfn(pfn);
			else if (!PageTail(page))
				pfn += lru_scan_folio(run, page);
			else
				pfn++;
			if (pfn - batch < SWAP_CLUSTER_MAX * 16)
				continue;
			batch = pfn;
			ret = mm_verify_pause(run);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int lru_verify(struct mm_verify_run *run)
{
	int ret;

	get_online_mems();
	ret = lru_walk(run);
	if (!ret)
		ret = lru_scan(run);
	put_online_mems();
	return ret;
}

static struct mm_verifier lru_verifier = {
	.name		= "lru",
	.findings	= lru_findings,
	.nr_findings	= LF_NR_FINDINGS,
	.figures	= lru_figures,
	.nr_figures	= LF_NR_FIGURES,
	.verify		= lru_verify,
};

static int __init lru_init(void)
{
	return mm_verify_register(&lru_verifier);
}
late_initcall(lru_init);
