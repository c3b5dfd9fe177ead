// SPDX-License-Identifier: GPL-2.0
/*
 * Injections of the lru verifier.
 *
 * What the lock pins is spoilt under it and put back in the same hold. A folio
 * is only chosen that can be referenced, so that nobody frees it meanwhile.
 * PG_lru is cleared as anybody may clear it who isolates the folio; the planter
 * only takes longer.
 */
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmzone.h>

#include "lru.h"

/* A folio of the place that the lock pins, with a reference taken. */
static struct folio *lru_pick(const struct lru_place *place)
{
	struct folio *folio;
	unsigned int i;

	for (i = 0; i < lru_place_heads(place); i++)
		list_for_each_entry(folio, lru_place_head(place, i), lru)
			if (folio_test_lru(folio) && folio_try_get(folio))
				return folio;
	return NULL;
}

/* Sizes that belong to a list: what is planted is not to be found by another name. */
static void lru_change_size(struct lruvec *lruvec, const struct lru_place *place,
			    struct folio *folio, long nr)
{
#ifdef CONFIG_LRU_GEN
	if (lru_place_is_gens(place)) {
		int zone = folio_zonenum(folio);

		lru_gen_nr_pages(lruvec, 0, place->type, zone) += nr;
		return;
	}
#endif
#ifdef CONFIG_MEMCG
	mem_cgroup_update_lru_size(lruvec, place->lru, folio_zonenum(folio), nr);
#endif
}

/**
 * lru_plant_flag - clear PG_lru of a folio that stays on its list
 * @run: the run
 * @place: where the folio is to be
 *
 * Return: the folio, for lru_undo_flag(), or NULL.
 */
struct folio *lru_plant_flag(struct mm_verify_run *run,
			     const struct lru_place *place)
{
	struct folio *folio;

	if (run->inject != LF_FLAG || run->planted)
		return NULL;

	spin_lock_irq(&place->lruvec->lru_lock);
	folio = lru_pick(place);
	spin_unlock_irq(&place->lruvec->lru_lock);
	if (folio && !folio_test_clear_lru(folio)) {
		folio_put(folio);
		return NULL;
	}
	run->planted = folio;
	return folio;
}

/**
 * lru_undo_flag - undo lru_plant_flag()
 * @folio: the folio
 */
void lru_undo_flag(struct folio *folio)
{
	folio_set_lru(folio);
	folio_put(folio);
}

/* The list of the same node and number that the folio is moved from. */
static bool lru_steal(const struct lru_place *place, struct lru_plant *plant)
{
	struct pglist_data *pgdat = lruvec_pgdat(place->lruvec);
	struct lru_place from = *place;
	struct mem_cgroup *memcg;
	struct folio *folio;

	for (memcg = mem_cgroup_iter(NULL, NULL, NULL); memcg;
	     memcg = mem_cgroup_iter(NULL, memcg, NULL)) {
		from.lruvec = mem_cgroup_lruvec(memcg, pgdat);
		/* Nobody else takes two of them: only try. */
		if (from.lruvec == place->lruvec ||
		    !spin_trylock(&from.lruvec->lru_lock))
			continue;
		folio = lru_pick(&from);
		if (folio) {
			plant->folio = folio;
			plant->pos = folio->lru.prev;
			plant->from = from.lruvec;
			mem_cgroup_iter_break(NULL, memcg);
			/* For sparse: held until lru_undo_place(). */
			__release(&from.lruvec->lru_lock);
			return true;
		}
		spin_unlock(&from.lruvec->lru_lock);
	}
	return false;
}

/* The other list of the same lruvec: active for inactive, file for anon. */
static struct lru_place lru_other(const struct lru_place *place)
{
	struct lru_place other = *place;

	if (lru_place_is_gens(place))
		other.type = !place->type;
	else
		other.lru ^= LRU_ACTIVE;
	return other;
}

static void lru_move_in(const struct lru_place *place,
			const struct lru_place *from, struct folio *folio)
{
	lru_change_size(from->lruvec, from, folio, -folio_nr_pages(folio));
	lru_change_size(place->lruvec, place, folio, folio_nr_pages(folio));
	list_move(&folio->lru, lru_place_head(place, 0));
}

static void lru_move_back(const struct lru_place *place,
			  const struct lru_place *from, struct lru_plant *plant)
{
	struct folio *folio = plant->folio;

	list_move(&folio->lru, plant->pos);
	lru_change_size(place->lruvec, place, folio, -folio_nr_pages(folio));
	lru_change_size(from->lruvec, from, folio, folio_nr_pages(folio));
}

/* Counters: false when this place has none of that name. */
static bool lru_plant_counter(struct mm_verify_run *run,
			      const struct lru_place *place, long delta)
{
	struct lruvec *lruvec = place->lruvec;

	switch (run->inject) {
	case LF_LRU_SIZE:
#ifdef CONFIG_MEMCG
		if (mem_cgroup_disabled() || lru_place_is_gens(place))
			return false;
		mem_cgroup_update_lru_size(lruvec, place->lru, 0, delta);
		run->planted = container_of(lruvec, struct mem_cgroup_per_node,
					    lruvec);
		return true;
#else
		return false;
#endif
	case LF_GEN_SIZE:
#ifdef CONFIG_LRU_GEN
		if (!lru_place_is_gens(place))
			return false;
		lru_gen_nr_pages(lruvec, 0, place->type, place->zone) += delta;
		run->planted = lruvec;
		return true;
#else
		return false;
#endif
	case LF_NODE_SIZE:
		if (!mem_cgroup_disabled() || lru_place_is_gens(place))
			return false;
		__mod_node_page_state(lruvec_pgdat(lruvec),
				      NR_LRU_BASE + place->lru, delta);
		/* One of its two types, which are compared apart. */
		run->planted = &lruvec->lists[place->lru];
		return true;
	default:
		return false;
	}
}

/**
 * lru_plant_place - spoil what the walk over a place has to find
 * @run: the run; planted is set when something was
 * @place: the lists, their lock held
 * @plant: what lru_undo_place() needs
 */
void lru_plant_place(struct mm_verify_run *run, const struct lru_place *place,
		     struct lru_plant *plant)
{
	struct lru_place other;

	/* A counter that is compared more than once is spoilt each time. */
	if (run->planted && (run->inject != LF_NODE_SIZE ||
			     run->planted != &place->lruvec->lists[place->lru]))
		return;

	switch (run->inject) {
	case LF_LIST:
		other = lru_other(place);
		plant->folio = lru_pick(&other);
		if (!plant->folio)
			return;
		plant->pos = plant->folio->lru.prev;
		lru_move_in(place, &other, plant->folio);
		break;
	case LF_LRUVEC:
		if (!lru_steal(place, plant))
			return;
		other = *place;
		other.lruvec = plant->from;
		lru_move_in(place, &other, plant->folio);
		break;
	case LF_LINKS:
		plant->folio = lru_pick(place);
		if (!plant->folio)
			return;
		/* Behind the folio: the one before it is right then. */
		plant->pos = plant->folio->lru.next;
		plant->pos->prev = plant->pos;
		break;
	case LF_LRU_SIZE:
	case LF_GEN_SIZE:
	case LF_NODE_SIZE:
		if (lru_plant_counter(run, place, 1))
			plant->value = 1;
		return;
	default:
		return;
	}
	run->planted = plant->folio;
}

/**
 * lru_undo_place - undo lru_plant_place()
 * @run: the run
 * @place: the lists, their lock held since
 * @plant: what was planted; its folio is to be put when the lock was dropped
 */
void lru_undo_place(struct mm_verify_run *run, const struct lru_place *place,
		    struct lru_plant *plant)
{
	struct lru_place other;

	if (plant->value)
		lru_plant_counter(run, place, -plant->value);
	if (!plant->folio)
		return;

	switch (run->inject) {
	case LF_LIST:
		other = lru_other(place);
		lru_move_back(place, &other, plant);
		break;
	case LF_LRUVEC:
		other = *place;
		other.lruvec = plant->from;
		lru_move_back(place, &other, plant);
		__acquire(&plant->from->lru_lock);	/* in lru_steal() */
		spin_unlock(&plant->from->lru_lock);
		break;
	case LF_LINKS:
		plant->pos->prev = &plant->folio->lru;
		break;
	}
}

/**
 * lru_plant_lost - take a folio off its list
 * @run: the run
 * @folio: a folio with PG_lru, its lruvec locked, with a reference
 * @plant: what lru_undo_lost() needs
 */
void lru_plant_lost(struct mm_verify_run *run, struct folio *folio,
		    struct lru_plant *plant)
{
	if (run->inject != LF_LOST || run->planted)
		return;
	plant->folio = folio;
	plant->pos = folio->lru.prev;
	list_del_init(&folio->lru);
	run->planted = folio;
}

/**
 * lru_undo_lost - undo lru_plant_lost()
 * @plant: what was planted
 */
void lru_undo_lost(struct lru_plant *plant)
{
	if (plant->folio)
		list_add(&plant->folio->lru, plant->pos);
}
