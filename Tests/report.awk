# Reads what `swift test` prints. The build is shown as it goes; of the tests a count now and then, and
# at the end which failed, where and why first, and the runner's last line.
#
# With -v summary=1, reads it again for the end alone.

# A name or a reason, cut where it gets long: arguments can have hundreds of thousands of bytes.
function short(text, limit) {
  return length(text) > limit ? substr(text, 1, limit) "..." : text
}

# The test of a line: what follows `Test ` up to one of the words that say what happened to it.
function name_before(words,    text, place) {
  text = substr($0, index($0, "Test ") + 5)
  place = index(text, words)
  return substr(text, 1, place - 1)
}

# Where and why, and before it the arguments if there are any:
# `… recorded an issue with 1 argument seed → 1 at File.swift:12:3: Expectation failed: …`.
function reason(    text, arguments) {
  text = substr($0, index($0, " recorded an issue") + 18)
  if (!match(text, / at [A-Za-z0-9_+]+\.swift:[0-9]+:[0-9]+: /)) return short(text, 200)
  arguments = substr(text, 2, RSTART - 2)
  text = short(substr(text, RSTART + 4), 200)
  return arguments == "" ? text : short(arguments, 80) "\n        " text
}

/^Build complete!/ { isRunning = 1; if (!summary) print; next }
!isRunning && index($0, "Test run started.") { isRunning = 1 }
!isRunning {
  if (!summary) print
  next
}

/^.*Test run with [0-9]+ tests? .* (passed|failed) after/ { last = $0; next }
/^[^ ]+ Test (run|case passing) / { next }
/^[^ ]+ Test .* recorded an issue/ {
  test = name_before(" recorded an issue")
  if (!(test in first)) first[test] = reason()
  next
}
/^[^ ]+ Test .* failed after [0-9.]+ seconds with/ {
  test = name_before(" failed after")
  sub(/ with [0-9]+ test cases?$/, "", test)
  delete running[test]
  failed[++failedCount] = test
  next
}
/^[^ ]+ Test .* passed after [0-9.]+ seconds/ {
  test = name_before(" passed after")
  sub(/ with [0-9]+ test cases?$/, "", test)
  delete running[test]
  if (++passedCount % 200 == 0 && !summary) print passedCount " tests passed"
  next
}
/^[^ ]+ Test .* started\.$/ { running[name_before(" started.")] = 1; next }
/Fatal error|^\*\*\* |error: .*(signal|exited)/ { if (deathCount < 5) death[++deathCount] = short($0, 200) }

END {
  for (number = 1; number <= failedCount; number++) {
    test = failed[number]
    print "FAILED  " short(test, 200)
    if (test in first) print "        " first[test]
  }
  if (last == "") {
    # No last line: the runner did not get there.
    for (number = 1; number <= deathCount; number++) print death[number]
    for (test in running) if (++unfinished <= 10) print "NOT FINISHED  " short(test, 200)
  } else print last
}
