/* Prints what plan.pml makes of each of many small cases, for test_rules.py to compare with the code. Every path is one case. */

#include "plan.pml"

#define AT 4

Item actual;

inline choose_guess() {
	if
	:: q.tat = 0
	:: q.tat = 3; q.since = 2 :: q.tat = 4; q.since = 2 :: q.tat = 5; q.since = 2
	:: q.tat = 6; q.since = 2 :: q.tat = 7; q.since = 3 :: q.tat = 8; q.since = 2
	fi;
	if
	:: true
	:: q.tat > 0 -> q.booked = 3; q.floor = 5
	:: q.tat > 0 -> q.booked = 5; q.floor = 7
	:: q.tat > 0 -> q.booked = 5; q.floor = 6
	:: q.tat > 0 -> q.booked = 6; q.floor = 8
	fi;
	if :: q.tat > 0 -> q.ttl = 5 :: q.tat > 0 -> q.ttl = 9 :: q.tat == 0 fi
}

inline choose_start() {
	if
	:: true
	:: q.bstart = 5; q.blevel = 7
	:: q.bstart = 6; q.blevel = 8
	:: q.bstart = 5; q.blevel = 7; q.bearlier = 5
	:: q.bstart = 6; q.blevel = 8; q.bearlier = 4
	fi
}

inline choose_request() {
	if
	:: true
	:: if :: q.cost1 = 1 :: q.cost1 = 2 fi;
		if :: q.patience1 = 0 :: q.patience1 = 1 :: q.patience1 = 2 fi;
		if :: q.cost2 = 0 :: q.cost2 = 1 :: q.cost2 = 2 fi;
		if :: q.patience2 = 0 :: q.cost2 > 0 -> q.patience2 = 2 fi
	fi;
	if
	:: q.cost1 > 0
	:: q.back = 1; q.bsince = 2; choose_start()
	:: q.back = 2; q.bsince = 2; choose_start()
	:: q.back = 1; q.bsince = 3; choose_start()
	fi
}

/* The item that the update meets: as guessed, or changed since. */
inline choose_actual() {
	actual.tat = q.tat; actual.since = q.since; actual.booked = q.booked; actual.floor = q.floor; actual.ttl = q.ttl; actual.w = 1;
	if
	:: true
	:: actual.w = q.stamp
	:: actual.tat = 0; actual.since = 0; actual.booked = 0; actual.floor = 0; actual.ttl = 0; actual.w = 0
	:: actual.tat > 0 -> actual.since = 5 - actual.since
	:: actual.tat > 3 -> actual.tat = actual.tat - 1
	:: actual.tat > 0 -> actual.tat = actual.tat + 1
	:: actual.tat > 0 -> actual.booked = 6; actual.floor = 9
	:: actual.tat > 0 -> actual.booked = 0; actual.floor = 0
	:: actual.tat > 0 -> actual.ttl = 7
	fi
}

init {
	atomic {
		q.at = AT;
		q.stamp = 2;
		choose_guess();
		choose_request();
		choose_actual();
		d_step {
			item.tat = actual.tat; item.since = actual.since; item.booked = actual.booked;
			item.floor = actual.floor; item.ttl = actual.ttl; item.w = actual.w;
			plan();
			holds = false;
			start1 = 0; start2 = 0; level1 = 0; level2 = 0;
			if :: writes -> check() :: else fi;
			if :: holds -> change(); receive() :: else fi;
			printf("CASE %d %d %d %d %d  %d %d %d %d  %d %d %d %d %d  %d %d %d %d %d %d",
				q.tat, q.since, q.booked, q.floor, q.ttl, q.cost1, q.patience1, q.cost2, q.patience2,
				q.back, q.bsince, q.bstart, q.blevel, q.bearlier,
				actual.tat, actual.since, actual.booked, actual.floor, actual.ttl, actual.w);
			printf("  %d %d %d %d %d %d  %d %d %d %d %d %d  %d %d %d %d\n",
				writes, holds, after1 > 0, after2 > 0, refused1, refused2,
				item.tat, item.since, item.booked, item.floor, item.ttl, item.w, start1, level1, start2, level2)
		}
	}
}
