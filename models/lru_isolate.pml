// SPDX-License-Identifier: GPL-2.0
/*
 * Compaction takes a folio off its LRU list while the folio's charge is moved to
 * another memcg, and the last reference is dropped. Is it taken off under the
 * lock of the list that it is on? README.md says what stands for what, and what
 * the trails show.
 *
 * expect: BASE2020 refuted locked, BASE2020+RECHECK_FIRST refuted locked
 * expect: BASE2020+RECHECK_LAST refuted locked
 * expect: SERIES proven, SERIES+KEEP_LOCK proven, SERIES+RELEASE proven
 * expect: SERIES+UNISOLATED_MOVE refuted locked
 * expect: SERIES+RELEASE+NO_REFERENCE refuted lost
 */
#if !defined(BASE2020) && !defined(SERIES)
#error
#endif

#define NO_LIST	2

#define lock(l)		atomic { !lru_lock[l] -> lru_lock[l] = true }
#define unlock(l)	lru_lock[l] = false

bool PG_lru = true;		/* of the one folio */
byte memcg, list;		/* its memcg, and the lruvec whose list it is on */
bool lru_lock[2];
bool locked, lost;		/* of use in one assertion only */
#ifdef RELEASE
byte refs = 2;			/* the mover's page-table entry, the page cache */
#endif

/* Both change the list's pointers, which only its own lock protects. */
inline lruvec_del_folio(l)
{
	d_step {
		locked = (list == l && lru_lock[l]);
		assert(locked);
		list = NO_LIST;
		locked = false
	}
}

inline lruvec_add_folio(l)
{
	d_step {
		locked = (list == NO_LIST && memcg == l && lru_lock[l]);
		assert(locked);
		list = l;
		locked = false
	}
}

#ifdef RELEASE
/* Freed: nothing may lead to it any more. */
inline free_folio()
{
	d_step {
		lost = (list != NO_LIST);
		assert(!lost)
	}
}

/* The last reference: nobody else has the folio. */
inline folio_put(l)
{
	atomic { refs--; last = (refs == 0) };
	if
	:: last && PG_lru ->
		l = memcg;
		lock(l);
		lruvec_del_folio(l);
		PG_lru = false;
		unlock(l);
		free_folio()
	:: last && !PG_lru -> free_folio()
	:: !last
	fi
}
#endif

inline putback(l)
{
	l = memcg;
	lock(l);
	lruvec_add_folio(l);
	PG_lru = true;
	unlock(l)
}

inline folio_test_clear_lru(was)
{
	atomic { was = PG_lru; PG_lru = false }
}

#ifdef SERIES
/* Who cleared PG_lru has the folio, and its memcg stays. */
inline isolate(l, mine)
{
	folio_test_clear_lru(mine);
	if
	:: mine ->
		l = memcg;
		lock(l);
		lruvec_del_folio(l);
		unlock(l)
	:: else
	fi
}
#endif

active proctype compaction()
{
	byte l;
	bool mine;
#ifdef RELEASE
	bool last;
#endif
#ifdef KEEP_LOCK
	byte kept = NO_LIST;	/* of the folio before this one */
#endif

	do
	::
#if defined(RELEASE) && !defined(NO_REFERENCE)
	   atomic {
		if
		:: refs > 0 -> refs++
		:: else -> goto gone
		fi
	   };
#endif
#ifdef KEEP_LOCK
	   if
	   :: kept = 0
	   :: kept = 1
	   fi;
	   lock(kept);
	   folio_test_clear_lru(mine);
	   if
	   :: mine ->
		l = memcg;
		if
		:: l != kept ->
			unlock(kept);
			lock(l)
		:: else
		fi;
		lruvec_del_folio(l);
		unlock(l)
	   :: else -> unlock(kept)
	   fi;
	   kept = NO_LIST;
#elif defined(SERIES)
	   isolate(l, mine);
#else
	   /* The order of 2020: the lock, and then a look at the folio. */
	   l = memcg;
	   lock(l);
	   mine = true;
#ifdef RECHECK_FIRST
	   mine = (memcg == l);
#endif
	   mine = (mine && PG_lru);
#ifdef RECHECK_LAST
	   mine = (mine && memcg == l);
#endif
	   if
	   :: mine ->
		PG_lru = false;
		lruvec_del_folio(l)
	   :: else
	   fi;
	   unlock(l);
#endif
	   if
	   :: mine -> putback(l)
	   :: else
	   fi;
#if defined(RELEASE) && !defined(NO_REFERENCE)
	   folio_put(l);
	   last = false;
#endif
	   l = 0;
	   mine = false
	od;
#if defined(RELEASE) && !defined(NO_REFERENCE)
gone:	skip
#endif
}

/* Charge moving: the folio is mapped, and isolated before its memcg changes. */
active proctype mover()
{
	byte l;
	bool mine;
#ifdef RELEASE
	bool last;
#endif

	do
	::
#ifdef UNISOLATED_MOVE
	   memcg = 1 - memcg;
#elif defined(SERIES)
	   isolate(l, mine);
#else
	   l = memcg;
	   lock(l);
	   mine = PG_lru;
	   if
	   :: mine ->
		PG_lru = false;
		lruvec_del_folio(l)
	   :: else
	   fi;
	   unlock(l);
#endif
#ifndef UNISOLATED_MOVE
	   if
	   :: mine ->
		memcg = 1 - memcg;
		putback(l)
	   :: else
	   fi;
#endif
	   l = 0;
	   mine = false
#ifdef RELEASE
	:: break
#endif
	od;
#ifdef RELEASE
	folio_put(l)
#endif
}

#ifdef RELEASE
/* Somebody else's reference, the page cache's say. */
active proctype release()
{
	byte l;
	bool last;

	folio_put(l)
}
#endif
