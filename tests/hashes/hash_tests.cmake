# The same bits from other compilers and on other targets: hashes/hashes.py compiles and runs a program that hashes what
# every operation and model computes, and compares with committed lines. All of its runs take an hour; here are those
# that other tests do not cover.

find_package(Python3 COMPONENTS Interpreter)
set(hash_runs
    gcc/-O3/scalar
    i686/-O0/sse2
    i686/-O0/model_files
    armhf/-O2/scalar
    s390x/-O2/scalar
    s390x/-O0/model_files
    wasm32/-O2/scalar)
foreach(run IN LISTS hash_runs)
  if(Python3_FOUND)
    add_test(NAME hashes/${run} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/hashes/hashes.py --only "^${run}$"
                                        --build-dir ${CMAKE_CURRENT_BINARY_DIR}/hashes)
  else()
    add_test(NAME hashes/${run} COMMAND ${CMAKE_COMMAND} -E echo "[intact: skipped] needs Python 3")
  endif()
  set_tests_properties(hashes/${run} PROPERTIES LABELS hashes COST 100 ${skip_line})
endforeach()
