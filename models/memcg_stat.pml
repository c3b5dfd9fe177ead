// SPDX-License-Identifier: GPL-2.0
/*
 * A page's last mapping goes and its first one comes, each counted in the
 * statistics of the page's memory cgroup, while charge moving gives the page to
 * another group. Is it counted where it is charged? README.md says what stands
 * for what, and what the trails show.
 *
 * expect: BASE proven, BASE+KSM proven
 * expect: RELOCATED refuted misplaced, RELOCATED+PIN refuted misplaced
 * expect: REMOVED+PIN refuted misplaced, REMOVED+WAIT refuted misplaced
 * expect: REMOVED+PRESENT refuted misplaced
 * expect: RELOCATED+PIN+WAIT proven, SERIES proven, SERIES+KSM refuted misplaced
 */
#if defined(SERIES)
#define REMOVED		/* nothing around either */
#define PIN
#define WAIT
#endif

#ifdef PIN
#define unchanged	(present == pte[HERE] && (present || mapcount == 0))
#else
#define unchanged	(present == pte[HERE])
#endif

#define HERE	1	/* the page table that charge moving walks; 0 is another */
#define other(g)	(1 - g)

byte memcg;			/* folio->memcg_data: group 0 or 1 */
byte mapcount;
bool folio_locked;
bool pte[2];			/* the two page tables map the page */
bool ptl[2];
short mapped[2];		/* NR_FILE_MAPPED of the two groups */
bool moving[2], move_lock[2];	/* memcg->moving_account, memcg->move_lock */

/* RCU: who is in a read-side section, and for whom a grace period waits. */
bool reading[2], waited[2];
bool at_work;			/* charge moving has a page in its hands */

bool misplaced;			/* of use in one step only */

/* What must hold when nobody is halfway: the end of each section. */
inline audit()
{
	d_step {
		misplaced = !reading[0] && !reading[1] && !at_work &&
			    (mapped[memcg] != (mapcount > 0) || mapped[other(memcg)] != 0);
		assert(!misplaced);
		misplaced = false
	}
}

/* The page-table lock is a read-side section too. */
inline lock_ptl(t)
{
	atomic { !ptl[t] -> ptl[t] = true; reading[t] = true }
}

inline unlock_ptl(t)
{
	atomic {
		ptl[t] = false; reading[t] = false; waited[t] = false;
		audit()
	}
}

inline synchronize_rcu()
{
	d_step { waited[0] = reading[0]; waited[1] = reading[1] }
	!waited[0] && !waited[1]
}

/* The lock of the group that the page is in, when that group's pages move. */
inline lock_page_memcg()
{
	atomic {
		!moving[memcg] || !move_lock[memcg] ->
		held = memcg;
		locked = moving[held];
		move_lock[held] = (locked -> true : move_lock[held])
	}
}

inline unlock_page_memcg()
{
	d_step {
		move_lock[held] = (locked -> false : move_lock[held]);
		locked = false; held = 0
	}
}

inline mod_lruvec_page_state(nr)
{
	g = memcg;
	d_step { mapped[g] = mapped[g] + nr; g = 0 }
}

#if defined(BASE)
#define around_all(x)	x
#else
#define around_all(x)	skip
#endif
#if defined(RELOCATED)
#define around_stat(x)	x
#else
#define around_stat(x)	skip
#endif

/* A thread that maps the page by a fault, and zaps it, again and again. */
active [2] proctype thread()
{
	byte g, held;
	bool locked, transition;

	do
	:: lock_ptl(_pid);
	   if
	   :: pte[_pid] ->
	      around_all(lock_page_memcg());
	      d_step {
		pte[_pid] = false;
		mapcount--;
		transition = (mapcount == 0)
	      }
	      if
	      :: transition ->
		 around_stat(lock_page_memcg());
		 mod_lruvec_page_state(-1);
		 around_stat(unlock_page_memcg());
		 transition = false
	      :: else
	      fi;
	      around_all(unlock_page_memcg())
	   :: else
	   fi;
	   unlock_ptl(_pid)

	:: !pte[_pid] ->
#ifndef KSM
	   atomic { !folio_locked -> folio_locked = true };
#endif
	   lock_ptl(_pid);
	   around_all(lock_page_memcg());
	   d_step {
		pte[_pid] = true;
		mapcount++;
		transition = (mapcount == 1)
	   }
	   if
	   :: transition ->
	      around_stat(lock_page_memcg());
	      mod_lruvec_page_state(1);
	      around_stat(unlock_page_memcg());
	      transition = false
	   :: else
	   fi;
	   around_all(unlock_page_memcg());
	   unlock_ptl(_pid);
#ifndef KSM
	   folio_locked = false
#else
	   skip
#endif
	od
}

inline mem_cgroup_move_account()
{
	atomic { !move_lock[from] -> move_lock[from] = true };
	if
	:: mapcount > 0 ->
	   mapped[from]--;
	   mapped[other(from)]++
	:: else
	fi;
	d_step { memcg = other(from); move_lock[from] = false }
}

/*
 * Charge moving. It comes upon the page through page table HERE: by its entry,
 * or, where that is empty, in the page cache.
 */
active proctype mover()
{
	byte from;
	bool present;

	do
	:: if
	   :: from = 0
	   :: from = 1
	   fi;
	   moving[from] = true;
	   synchronize_rcu();

	   atomic { !ptl[HERE] -> ptl[HERE] = true };
	   if
	   :: atomic {
		memcg == from && !folio_locked ->
		folio_locked = true;
		at_work = true;
		present = pte[HERE]
	      }
	      if
#if defined(PIN)
	      :: !present && mapcount > 0	/* not moved */
#elif defined(PRESENT)
	      :: !present			/* not moved */
#endif
	      :: else ->
#ifdef WAIT
		 ptl[HERE] = false;
		 synchronize_rcu();
		 atomic { !ptl[HERE] -> ptl[HERE] = true };
		 if
		 :: unchanged -> mem_cgroup_move_account()
		 :: else
		 fi
#else
		 mem_cgroup_move_account()
#endif
	      fi;
	      d_step { folio_locked = false; at_work = false; present = false }
	   :: else
	   fi;
	   atomic {
		ptl[HERE] = false; moving[from] = false; from = 0;
		audit()
	   }
	od
}
