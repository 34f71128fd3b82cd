# Runs the verification of recorded cases, if there are any: cmake -D PROGRAM=<intact-verify> -P <this file>

cmake_minimum_required(VERSION 3.25)

if("$ENV{INTACT_CASES_DIR}" STREQUAL "")
  message(NOTICE "[intact: skipped] INTACT_CASES_DIR names no folder of recorded cases")
  return()
endif()
execute_process(COMMAND ${PROGRAM} $ENV{INTACT_CASES_DIR} COMMAND_ERROR_IS_FATAL ANY)
