import sys
def main():
    from ecdctr_spark.doctor import report, environment_findings
    sys.exit(report(environment_findings()))
