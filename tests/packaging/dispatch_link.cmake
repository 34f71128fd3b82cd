# Links objects in the reverse of their order:
#   cmake -D LINK=<compiler and options> -D OBJECTS=<list> -D PROGRAM=<file> -P <this file>

cmake_minimum_required(VERSION 3.25)

list(REVERSE OBJECTS)
execute_process(COMMAND ${LINK} ${OBJECTS} -o ${PROGRAM} COMMAND_ERROR_IS_FATAL ANY)
