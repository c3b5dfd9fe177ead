/* SPDX-License-Identifier: GPL-2.0 */
/* Between the lru verifier and its injections. */
#ifndef _MM_VERIFY_LRU_H
#define _MM_VERIFY_LRU_H

#include <linux/mm.h>
#include <linux/mmzone.h>

#include "verify.h"

enum lru_finding {
	LF_FLAG,		/* on a list without PG_lru, for long */
	LF_LIST,		/* folio's flags name another list */
	LF_LRUVEC,		/* folio's node and memcg have another lruvec */
	LF_LINKS,		/* list pointers do not lead back */
	LF_LOST,		/* PG_lru and on no list */
	LF_LRU_SIZE,		/* memcg's lru_zone_size is not the list's length */
	LF_GEN_SIZE,		/* generations' nr_pages is not their lists' length */
	LF_NODE_SIZE,		/* without memcg: node's counter is not the length */
	LF_NR_FINDINGS,
};

/* The head of one generation's list. */
#ifdef CONFIG_LRU_GEN
#define LRU_NR_GENS		MAX_NR_GENS
#define lru_gen_head(lruvec, gen, type, zone)	\
	(&(lruvec)->lrugen.folios[gen][type][zone])
#define lru_gen_nr_pages(lruvec, gen, type, zone)	\
	((lruvec)->lrugen.nr_pages[gen][type][zone])
#else
#define LRU_NR_GENS		0
#endif

/**
 * struct lru_place - lists whose entries are summed together
 * @lruvec: whose lists
 * @lru: a list of the classic LRU; NR_LRU_LISTS: those of all generations of
 *	@type and @zone
 * @type: LRU_GEN_ANON or LRU_GEN_FILE
 * @zone: index of the zone
 */
struct lru_place {
	struct lruvec *lruvec;
	enum lru_list lru;
	int type;
	int zone;
};

static inline bool lru_place_is_gens(const struct lru_place *place)
{
	return place->lru == NR_LRU_LISTS;
}

static inline unsigned int lru_place_heads(const struct lru_place *place)
{
	return lru_place_is_gens(place) ? LRU_NR_GENS : 1;
}

static inline struct list_head *lru_place_head(const struct lru_place *place,
					       unsigned int i)
{
#ifdef CONFIG_LRU_GEN
	if (lru_place_is_gens(place))
		return lru_gen_head(place->lruvec, i, place->type, place->zone);
#endif
	return &place->lruvec->lists[place->lru];
}

/**
 * struct lru_plant - what an injection changed, to be undone in the same hold
 * @folio: the folio, referenced; NULL when none was spoilt
 * @pos: the entry before it, or behind it
 * @from: the lruvec that it was taken from, locked too
 * @value: what was added to a counter
 */
struct lru_plant {
	struct folio *folio;
	struct list_head *pos;
	struct lruvec *from;
	long value;
};

#ifdef CONFIG_DEBUG_VM_VERIFY_INJECT
struct folio *lru_plant_flag(struct mm_verify_run *run,
			     const struct lru_place *place);
void lru_undo_flag(struct folio *folio);
void lru_plant_place(struct mm_verify_run *run, const struct lru_place *place,
		     struct lru_plant *plant);
void lru_undo_place(struct mm_verify_run *run, const struct lru_place *place,
		    struct lru_plant *plant);
void lru_plant_lost(struct mm_verify_run *run, struct folio *folio,
		    struct lru_plant *plant);
void lru_undo_lost(struct lru_plant *plant);
#else
static inline struct folio *lru_plant_flag(struct mm_verify_run *run,
					   const struct lru_place *place)
{
	return NULL;
}

static inline void lru_undo_flag(struct folio *folio)
{
}

static inline void lru_plant_place(struct mm_verify_run *run,
				   const struct lru_place *place,
				   struct lru_plant *plant)
{
}

static inline void lru_undo_place(struct mm_verify_run *run,
				  const struct lru_place *place,
				  struct lru_plant *plant)
{
}

static inline void lru_plant_lost(struct mm_verify_run *run,
				  struct folio *folio, struct lru_plant *plant)
{
}

static inline void lru_undo_lost(struct lru_plant *plant)
{
}
#endif

#endif /* _MM_VERIFY_LRU_H */
