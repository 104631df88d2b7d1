// React comes with Airflow's UI, as a global: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/plugins.html
declare module "*.css" {
  const text: string;
  export default text;
}
