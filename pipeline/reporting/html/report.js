// Starts what report.html has.
if ($("matrix")) startMatrices();
if ($("pool")) startPools();
if ($("front")) startFront();
else showTables();
