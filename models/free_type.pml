// SPDX-License-Identifier: GPL-2.0
/*
 * A page is freed while another CPU gives its pageblock another type. Is it put
 * on the list of the type that the block has then? README.md says what stands
 * for what, and what the trails show.
 *
 * expect: BASE refuted misplaced, SERIES proven, SERIES+CMA+ISOLATE proven
 * expect: BASE+DIRECT+STEAL refuted misplaced, BASE+PCP+STEAL refuted misplaced
 * expect: BASE+DIRECT+RESERVE refuted misplaced, BASE+PCP+RESERVE refuted misplaced
 * expect: BASE+DIRECT+ISOLATE refuted misplaced, BASE+PCP+ISOLATE refuted misplaced
 * expect: BASE+ISOLATE+RESTORE proven, BASE+COUNTERS proven
 * expect: NO_REREAD+COUNTERS refuted nr_free_pages
 * expect: NO_REREAD+COUNTERS+CMA refuted nr_free_cma
 */
#if defined(SERIES)
#define REREAD_DIRECT	true
#define REREAD_PCP	true
#elif defined(BASE)
#define REREAD_DIRECT	(nr_isolate_pageblock || mt == MIGRATE_ISOLATE)
#define REREAD_PCP	nr_isolate_pageblock
#elif defined(NO_REREAD)
#define REREAD_DIRECT	false
#define REREAD_PCP	false
#endif

#ifdef PCP
#define DIRECTLY	(mt == MIGRATE_ISOLATE)
#else
#define DIRECTLY	true
#endif

#if !defined(STEAL) && !defined(RESERVE) && !defined(ISOLATE)
#define STEAL
#define RESERVE
#define ISOLATE
#endif

mtype = { NO_LIST, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_HIGHATOMIC,
	  MIGRATE_CMA, MIGRATE_ISOLATE };

#define mergeable(mt)	(mt == MIGRATE_UNMOVABLE || mt == MIGRATE_MOVABLE)
#define free(page)	(list[page] != NO_LIST)
#define counted(page)	(free(page) && list[page] != MIGRATE_ISOLATE)
#define hold_zone_lock	atomic

#ifdef CMA
mtype block = MIGRATE_CMA;	/* the pageblock's type */
#else
mtype block = MIGRATE_UNMOVABLE;
#endif
mtype list[2] = NO_LIST;	/* the free lists that the two pages are on */
short nr_free_pages, nr_free_cma;
byte nr_isolate_pageblock;

/* Of use in one hold only. */
byte page, moved, listed, listed_cma;
mtype to = NO_LIST;
bool misplaced;

/* What must hold whenever zone->lock is free: the end of every hold. */
inline audit()
{
	d_step {
		misplaced = (free(0) && list[0] != block) || (free(1) && list[1] != block);
		listed = counted(0) + counted(1);
		listed_cma = (list[0] == MIGRATE_CMA) + (list[1] == MIGRATE_CMA);
#ifndef COUNTERS
		assert(!misplaced);
#endif
		assert(nr_free_cma == listed_cma);
		assert(nr_free_pages == listed);
		page = 0; to = NO_LIST; moved = 0;
		misplaced = false; listed = 0; listed_cma = 0
	}
}

inline mod_zone_freepage_state(nr, mt)
{
	nr_free_pages = nr_free_pages + nr;
	nr_free_cma = (mt == MIGRATE_CMA -> nr_free_cma + nr : nr_free_cma)
}

inline move_freepages_block(mt)
{
	d_step {
		moved = free(0) + free(1);
		list[0] = (free(0) -> mt : NO_LIST);
		list[1] = (free(1) -> mt : NO_LIST)
	}
}

inline any_page_and_type()
{
	if
	:: page = 0
	:: page = 1
	fi;
	if
	:: to = MIGRATE_UNMOVABLE
	:: to = MIGRATE_MOVABLE
	fi
}

inline free_one_page(mt)
{
	list[_pid] = mt;
	mod_zone_freepage_state((mt != MIGRATE_ISOLATE), mt);
	mt = NO_LIST;
	audit()
}

/* A CPU's page is freed, by one of two ways, and allocated again. */
active [2] proctype cpu()
{
	mtype mt = NO_LIST;

	do
	:: mt = block;		/* without zone->lock */
	   if
	   :: DIRECTLY ->
	      hold_zone_lock {
		mt = (REREAD_DIRECT -> block : mt);
		free_one_page(mt)
	      }
#ifndef DIRECT
	   :: mt != MIGRATE_ISOLATE ->	/* waits on a pcp list */
	      hold_zone_lock {
		mt = (REREAD_PCP -> block : mt);
		free_one_page(mt)
	      }
#endif
	   fi;

	   hold_zone_lock {
		list[_pid] != MIGRATE_ISOLATE ->
		mod_zone_freepage_state(-1, list[_pid]);
		list[_pid] = NO_LIST;
		audit()
	   }
	od
}

#ifdef STEAL
/* Finds a free page on another list than its own and claims the block. */
active proctype steal()
{
	do
	:: hold_zone_lock {
		any_page_and_type();
		if
		:: !mergeable(list[page]) || list[page] == to
#ifndef SERIES
		:: mergeable(list[page]) && block == MIGRATE_HIGHATOMIC ->
			list[page] = to		/* was misplaced */
#endif
		:: else ->
			move_freepages_block(to);
			block = to
		fi;
		audit()
	   }
	od
}
#endif

#ifdef RESERVE
/* Reserves the block for high-order atomic allocations and gives it up. */
active proctype reserve()
{
	do
	:: hold_zone_lock {
		mergeable(block) ->
		block = MIGRATE_HIGHATOMIC;
		move_freepages_block(MIGRATE_HIGHATOMIC);
		audit()
	   }
	:: hold_zone_lock {
		any_page_and_type();
		if
		:: list[page] == MIGRATE_HIGHATOMIC ->
			block = to;
			move_freepages_block(to)
		:: else
		fi;
		audit()
	   }
	od
}
#endif

#ifdef ISOLATE
/* Isolates the block, then gives it its type back or that which the caller names. */
active proctype isolate()
{
	mtype mt;

	do
	:: hold_zone_lock {
		mt = block;
		block = MIGRATE_ISOLATE;
		nr_isolate_pageblock++;
		move_freepages_block(MIGRATE_ISOLATE);
		mod_zone_freepage_state(-moved, mt);
		audit()
	   }
#ifndef RESTORE
	   if
	   :: mt != MIGRATE_CMA -> mt = MIGRATE_MOVABLE
	   :: true
	   fi;
#endif
	   hold_zone_lock {
		move_freepages_block(mt);
		mod_zone_freepage_state(moved, mt);
		block = mt;
		nr_isolate_pageblock--;
		audit()
	   }
	od
}
#endif
